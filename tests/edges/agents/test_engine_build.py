"""Builds on the real engine, by every driver that this machine can have."""

from __future__ import annotations

import json
import os
import re
import uuid
from pathlib import Path

import pytest

from agents.engine import engines, images
from agents.job import closed_context
from agents.job.closed_context import Access
from tests.edges.agents.engine_bed import BUILD_CLIENTS, job, use_driver

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]

STAGES = """\
FROM scratch AS base
COPY busybox /bin/busybox
FROM base AS made
ARG WORD=none
RUN ["/bin/busybox", "sh", "-c", "echo $WORD $(/bin/busybox uname -m) > /made"]
FROM base AS wanted
COPY --from=made /made /made
RUN ["/bin/busybox", "cat", "/made"]
FROM base AS last
RUN ["/bin/busybox", "false"]
"""
MACHINES = {
    "linux/amd64": ("amd64", "", "x86_64"),
    "linux/arm64": ("arm64", "", "aarch64"),
    "linux/arm/v6": ("arm", "v6", "armv7l"),
}


@pytest.fixture(params=BUILD_CLIENTS)
def driver(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    use_driver(request.param, tmp_path, monkeypatch)
    return request.param


@pytest.mark.usefixtures("emulation")
@pytest.mark.parametrize("platform", MACHINES)
def test_a_platform_is_built_and_recorded_as_what_it_is(driver, platform, tmp_path):
    """Stages, args, labels and the target stage are as asked, steps run on the platform, its variant is kept."""
    architecture, variant, machine = MACHINES[platform]
    word = uuid.uuid4().hex
    fields = {"stage": "wanted", "build_args": {"WORD": word}, "labels": {"mine": "x", "odd": "a = 'b'"}}

    with job(tmp_path, driver, STAGES, platform, **fields) as made:
        result = made.run()
        image = images.inspect(engines.local_engine(), made.spec.image)

    assert result == {
        "state": "BUILT",
        "image_id": image["Id"],
        "os": "linux",
        "architecture": architecture,
        "variant": variant,
        "size": image["Size"],
    }
    assert image["Config"]["Labels"] == fields["labels"]
    assert re.search(rf"^#\d+ \d\.\d+ {word} {machine}$", made.log, re.MULTILINE), made.log
    assert re.search(r"^#\d+ DONE \d+\.\ds$", made.log, re.MULTILINE)


def test_the_context_is_what_was_sent(driver, tmp_path):
    """An ignore file in the context was applied before it was sent, and is only a file now."""
    dockerfile = (
        "FROM scratch\nCOPY busybox /bin/busybox\nARG WORD\nCOPY . /all\n"
        'RUN ["/bin/busybox", "sh", "-c", '
        "\"cd /all && /bin/busybox find . -exec /bin/busybox stat -c '<%n> %a %u' {} +\"]\n"
    )
    with job(tmp_path, driver, dockerfile, build_args={"WORD": uuid.uuid4().hex}, no_cache=True) as made:
        (made.context / "busybox").chmod(0o755)
        (made.context / "Dockerfile").write_text(dockerfile)
        (made.context / "Dockerfile").chmod(0o644)
        (made.context / ".dockerignore").write_text("*\n!busybox\n")
        (made.context / "empty").mkdir(mode=0o755)
        (made.context / "odd ü").write_text("x")
        (made.context / "odd ü").chmod(0o600)
        (made.context / "to").symlink_to("nowhere")

        result = made.run()

    assert result["state"] == "BUILT", made.log
    assert sorted(re.findall(r"<(\./.*)> (\d+) (\d+)", made.log)) == [
        ("./.dockerignore", "644", "0"),
        ("./Dockerfile", "644", "0"),
        ("./busybox", "755", "0"),
        ("./empty", "755", "0"),
        ("./odd ü", "600", "0"),
        ("./to", "777", "0"),
    ]


@pytest.mark.parametrize("access", Access)
def test_a_context_that_is_closed_to_the_login_is_what_was_sent(driver, access, tmp_path):
    """In a user namespace, and as an archive with the Dockerfile in it."""
    dockerfile = (
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY sub /sub\nARG WORD\n"
        'RUN ["/bin/busybox", "sh", "-c", "cd /sub && /bin/busybox find . ! -type d -exec '
        "/bin/busybox stat -c '<%n> %a %u %s %Y %h' {} +\"]\n"
    )
    with job(tmp_path, driver, dockerfile, build_args={"WORD": uuid.uuid4().hex}, no_cache=True) as made:
        (made.context / "busybox").chmod(0o755)
        sub = made.context / "sub"
        sub.mkdir()
        for name, mode, time in (("shadow", 0, 0.5), ("-n caf\u00e9\udcff", 0o4711, 1.75), ("link", 0o600, 2)):
            (sub / name).write_bytes(b"content of 19 bytes")
            os.utime(sub / name, (time, time))
            (sub / name).chmod(mode)
        (sub / "twin").hardlink_to(sub / "link")
        sub.chmod(0o311)
        closed_context.write(made.folder, access)

        result = made.run()

    assert result["state"] == "BUILT", made.log
    assert sorted(re.findall(r"<(\./.*)> (\d+) (\d+) (\d+) (\d+) (\d+)", made.log)) == [
        ("./-n caf\u00e9\ufffd", "4711", "0", "19", "1", "1"),
        ("./link", "600", "0", "19", "2", "2"),
        ("./shadow", "0", "0", "19", "0", "1"),
        ("./twin", "600", "0", "19", "2", "2"),
    ]


def test_a_rewritten_dockerfile_never_takes_the_place_of_the_users(tmp_path):
    """The file at its path is the user's, and times before 1970 are told of."""
    dockerfile = 'FROM scratch\nCOPY busybox Dockerfile /\nRUN ["/busybox", "cat", "/Dockerfile"]\n'
    with job(tmp_path, "api", dockerfile, no_cache=True) as made:
        os.utime(made.context / "Dockerfile", (-1, -1))

        result = made.run()

    assert result["state"] == "BUILT", made.log
    assert "FROM elsewhere" in made.log
    assert "archloom: 1 files or folders are older than 1970" in made.log


def test_a_dockerfile_that_is_as_the_context_has_it_is_sent_once(tmp_path):
    """So what `COPY . .` takes is what `docker build` of the folder has, with the mode and time of the user's file."""
    dockerfile = (
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY . /all\n"
        'RUN ["/bin/busybox", "sh", "-c", '
        "\"cd /all && /bin/busybox stat -c '<%n> %a %Y' $(/bin/busybox ls -A)\"]\n"
    )
    with job(tmp_path, "api", dockerfile, no_cache=True) as made:
        (made.context / "busybox").chmod(0o755)
        os.utime(made.context / "busybox", (5, 5))
        (made.context / "Dockerfile").write_text(dockerfile)
        (made.context / "Dockerfile").chmod(0o640)
        os.utime(made.context / "Dockerfile", (7, 7))

        result = made.run()

    assert result["state"] == "BUILT", made.log
    assert re.findall(r"<(.*)> (\d+) (\d+)", made.log) == [("Dockerfile", "640", "7"), ("busybox", "755", "5")]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ('RUN ["/bin/busybox", "sh", "-c", "echo hi; exit 3"]', "exit code: 3"),
        ("COPY nope /", '"/nope" not found'),
        ("COPPY x /", "unknown instruction: COPPY"),
    ],
)
def test_a_failed_step_is_the_dockerfiles_fault(driver, step, said, tmp_path):
    """A build that fails on a host in good health is FAILED, with the engine's own sentence and nothing before it."""
    with job(tmp_path, driver, f"FROM scratch\nCOPY busybox /bin/busybox\n{step}\n") as made:
        result = made.run()

    assert (result["state"], result["code"]) == ("FAILED", "build")
    assert said in result["message"]
    assert not result["message"].startswith(("ERROR", "failed to solve", "rpc"))
    assert "ERROR: " in made.log or driver == "docker"


def test_a_base_that_is_not_held_is_lost_before_anything_runs(driver, tmp_path):
    """A held base that somebody pruned is the host's loss: the coordinator can pull it again."""
    base = {
        "name": "localhost:1/gone:1-abc",
        "repository": "b",
        "digest": "sha256:" + "0" * 64,
        "platform": "linux/amd64",
    }

    with job(tmp_path, driver, f"FROM {base['name']}\n", bases=[base]) as made:
        result = made.run()

    assert (result["state"], result["code"]) == ("LOST", "base")
    assert base["name"] in result["message"]
    assert made.log == ""


def test_nothing_is_left_after_discard(driver, tmp_path):
    """The held image goes by name, and it is fine to ask again."""
    with job(tmp_path, driver, "FROM scratch\nCOPY busybox /b\n") as made:
        made.run()

        engines.discard(made.spec)
        engines.discard(made.spec)

        assert images.inspect(engines.local_engine(), made.spec.image) is None


def test_a_program_never_sees_the_users_configuration(tmp_path, monkeypatch):
    """The environment of a driver's program is made, not inherited: credentials and chosen builders stay outside."""
    use_driver("buildx", tmp_path, monkeypatch)
    monkeypatch.setenv("BUILDX_BUILDER", "somebody-elses")
    configuration = Path(str(tmp_path / "docker-config" / "config.json"))
    configuration.write_text(json.dumps({"auths": {"127.0.0.1:1": {"auth": "bm86bm8="}}}))
    with job(tmp_path, "buildx", "FROM scratch\nCOPY busybox /b\n") as made:
        assert made.run()["state"] == "BUILT", made.log
        assert "bm86bm8=" not in "".join(
            path.read_text("utf-8", "replace") for path in made.folder.rglob("*") if path.suffix == ".json"
        )


def test_no_git_is_run_in_a_context(tmp_path, monkeypatch):
    """Its `.git` is files like others; what git would find there is in no image."""
    use_driver("buildx", tmp_path, monkeypatch)
    (tmp_path / "bin").mkdir()
    git = tmp_path / "bin" / "git"
    git.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    with job(tmp_path, "buildx", "FROM scratch\nCOPY . /all\n") as made:
        (made.context / ".git").mkdir()
        assert made.run()["state"] == "BUILT", made.log
        assert "WARNING" not in made.log

    assert not (tmp_path / "ran").exists()
