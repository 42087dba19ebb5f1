"""A docker command line is asked once, and again where its answer may have changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from agents.engine.docker_clis import find_cli, installed
from agents.engine.known_clis import FILE, Answer, KnownClis
from tests.services.missing import program

ANSWER = Answer("28.5.1", "", "")
PLUGIN = """#!/bin/sh
echo '{"SchemaVersion": "0.1.0", "Vendor": "Docker Inc.", "Version": "v0.29.1", "ShortDescription": "Build"}'
"""
DAMAGE = [b"", b"{", b"[]", b'{"format": 2, "clis": []}', b'{"format": 9, "clis": {}}', b"\xff"]


@pytest.fixture
def docker(tmp_path: Path) -> str:
    """A program of docker's name. Nobody starts it."""
    return shutil.copy(os.path.realpath(program("true")), str(tmp_path / "docker"))


@pytest.fixture
def known(tmp_path: Path) -> KnownClis:
    (tmp_path / "config").mkdir()
    return KnownClis(tmp_path, {"DOCKER_CONFIG": str(tmp_path / "config"), "HOME": str(tmp_path)})


def test_an_answer_is_kept(known, docker):
    assert known.answer(docker) is None

    known.keep(docker, ANSWER)

    assert known.answer(docker) == ANSWER


def test_two_programs_are_kept(known, docker, tmp_path):
    (tmp_path / "other").mkdir()
    other = shutil.copy(docker, str(tmp_path / "other" / "docker"))
    known.keep(docker, ANSWER)
    known.keep(other, ANSWER._replace(version="20.10.24"))

    assert (known.answer(docker), known.answer(other)) == (ANSWER, ANSWER._replace(version="20.10.24"))


def test_a_replaced_program_is_asked_again(known, docker):
    known.keep(docker, ANSWER)
    with Path(docker).open("ab") as file:
        file.write(b"x")

    assert known.answer(docker) is None


def test_a_replaced_plugin_is_asked_again(known, docker, tmp_path):
    plugin = tmp_path / "docker-buildx"
    plugin.write_bytes(b"1")
    known.keep(docker, ANSWER._replace(plugin=str(plugin), buildx="v0.29.1"))
    assert known.answer(docker) is not None
    plugin.write_bytes(b"22")

    assert known.answer(docker) is None


@pytest.mark.parametrize("change", ["mode", "replaced"])
def test_a_change_that_keeps_size_and_time_is_one(known, docker, tmp_path, change):
    """Packages come with the times of their build."""
    known.keep(docker, ANSWER)
    before = Path(docker).stat()
    if change == "mode":
        Path(docker).chmod(0o700)
    else:
        shutil.copy2(docker, tmp_path / "new")
        (tmp_path / "new").replace(docker)
    os.utime(docker, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert known.answer(docker) is None


@pytest.mark.engine
def test_a_buildx_that_comes_later_is_found(tmp_path):
    """Whether it is made executable, or what its link leads to appears: neither changes the folder."""
    plugins, target = tmp_path / "config/cli-plugins", tmp_path / "target"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(target)
    environ = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "config")}
    first = installed(environ, tmp_path)
    target.write_text(PLUGIN)
    target.chmod(0o755)

    second = installed(environ, tmp_path)

    assert [cli.path for cli in second] == [cli.path for cli in first]
    assert str(plugins / "docker-buildx") not in {cli.plugin for cli in first}
    assert str(plugins / "docker-buildx") in {cli.plugin for cli in second}
    assert installed(environ, tmp_path) == second


def test_it_is_asked_again_where_plugins_may_have_come(known, docker, tmp_path):
    known.keep(docker, ANSWER)
    (tmp_path / "config" / "cli-plugins").mkdir()

    assert known.answer(docker) is None


def test_it_is_asked_again_where_the_settings_have_changed(known, docker, tmp_path):
    known.keep(docker, ANSWER)
    (tmp_path / "config" / "config.json").write_text("{}")

    assert known.answer(docker) is None


def test_plugins_in_other_folders_are_asked_for_each_time(known, docker, tmp_path):
    (tmp_path / "config" / "config.json").write_text('{"cliPluginsExtraDirs": ["/opt"]}')
    known.keep(docker, ANSWER)

    assert known.answer(docker) is None


@pytest.mark.parametrize("name", ["docker", "snap"])
def test_a_script_and_a_link_to_another_program_are_asked_each_time(known, docker, tmp_path, name):
    """`/snap/bin/docker` is a link to `/usr/bin/snap`, which stays the same whatever docker it starts."""
    (tmp_path / "bin").mkdir()
    if name == "docker":
        path = tmp_path / "bin" / "docker"
        path.write_text(f'#!/bin/sh\nexec {docker} "$@"\n')
    else:
        shutil.move(docker, tmp_path / "snap")
        path = tmp_path / "bin" / "docker"
        path.symlink_to(tmp_path / "snap")
    known.keep(str(path), ANSWER)

    assert known.answer(str(path)) is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_as_none(known, docker, tmp_path, damage):
    (tmp_path / FILE).write_bytes(damage)
    assert known.answer(docker) is None

    known.keep(docker, ANSWER)

    assert known.answer(docker) == ANSWER


def test_a_folder_that_cannot_be_written_is_no_error(docker, tmp_path):
    known = KnownClis(tmp_path / "none", {})

    known.keep(docker, ANSWER)

    assert known.answer(docker) is None


@pytest.mark.engine
def test_this_machines_docker_is_not_started_again(tmp_path):
    """What is kept is believed: the second answers are those in the file."""
    first = installed(os.environ, tmp_path)
    document = json.loads((tmp_path / FILE).read_text())
    for cli in document["clis"].values():
        cli["version"] = "18.9.1"
    (tmp_path / FILE).write_text(json.dumps(document))

    second = installed(os.environ, tmp_path)

    assert [cli.path for cli in second] == [cli.path for cli in first]
    assert {cli.version for cli in second if cli.path in document["clis"]} == {"18.9.1"}
    assert find_cli("docker", os.environ, tmp_path, "", "") in document["clis"]
