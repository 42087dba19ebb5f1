"""What the command line and the environment become: the target of a run."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from coordinator.cli.build import command
from coordinator.cli.request_flags import Flags, target_from
from coordinator.domain.targets.target import Target
from coordinator.errors import UsageError

EPOCH = "SOURCE_DATE_EPOCH"


@pytest.fixture(autouse=True)
def in_a_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.chdir(tmp_path)


def target(*words: str, **environ: str) -> Target:
    tag = () if "-t" in words else ("-t", "nas.lan:5000/app:1")
    with click.Context(command) as parent, command.make_context("build", [*tag, *words, "."], parent=parent) as context:
        flags = Flags(**{key: value for key, value in context.params.items() if key in Flags.__slots__})
        return target_from(flags, environ)


@pytest.mark.parametrize(
    ("words", "environ", "given"),
    [
        ((), {}, {}),
        ((), {EPOCH: ""}, {}),
        ((), {EPOCH: "1700000000"}, {EPOCH: "1700000000"}),
        ((), {EPOCH: "-1"}, {EPOCH: "-1"}),
        (("--build-arg", f"{EPOCH}=5"), {EPOCH: "1700000000"}, {EPOCH: "5"}),
        (("--build-arg", f"{EPOCH}="), {EPOCH: "1700000000"}, {EPOCH: ""}),
        (("--build-arg", "A=1"), {EPOCH: "7"}, {"A": "1", EPOCH: "7"}),
    ],
)
def test_the_source_date_of_the_environment_is_an_argument(words, environ, given):
    """As docker buildx has it: where it is set and not empty, unless the command line has one."""
    assert target(*words, **environ).build_args == given


@pytest.mark.parametrize("text", ["yesterday", "1.5", "2026-11-30", " 5", "٣", "9" * 30])
def test_a_source_date_that_is_no_number_is_refused(text):
    """BuildKit would refuse it on a board, or an older one pass it on."""
    with pytest.raises(UsageError, match=f"{EPOCH} is '{text}'") as refused:
        target(**{EPOCH: text})

    assert f"unset {EPOCH}" in refused.value.hint
    with pytest.raises(UsageError, match=f"{EPOCH} is '{text}' in the environment"):
        target("--build-arg", EPOCH, **{EPOCH: text})
    with pytest.raises(UsageError, match=f"{EPOCH} is '{text}' in --build-arg") as refused:
        target("--build-arg", f"{EPOCH}={text}")
    assert f"--build-arg {EPOCH}=" in refused.value.hint


def test_the_source_date_may_be_volatile():
    """A commit's date changes with every commit, and need not rebuild what has not changed."""
    assert target("--volatile", EPOCH, **{EPOCH: "5"}).volatile == (EPOCH,)
    with pytest.raises(UsageError, match="neither a --build-arg nor a --label"):
        target("--volatile", EPOCH)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is a named pipe"),
        (lambda path: path.symlink_to("gone"), "is a symbolic link that leads to gone, which does not exist"),
        (lambda path: path.symlink_to(path.name), "is a symbolic link that leads in a circle"),
        (lambda _: None, "there is no Dockerfile at "),
        (lambda path: path.with_name("file").touch(), "there is no Dockerfile at "),
    ],
)
def test_a_dockerfile_that_is_no_file_is_named(tmp_path: Path, make, message):
    """What stands there instead is said, and never waited for: nobody may write to a pipe."""
    (tmp_path / "Dockerfile").unlink()
    make(tmp_path / "Dockerfile")

    with pytest.raises(UsageError, match=message) as refused:
        target()

    assert str(tmp_path / "Dockerfile") in refused.value.message


@pytest.mark.parametrize("tag", [f"archloom-{'0' * 64}-arm64-n", "archloom-0123456789abcdef-arm64"])
def test_a_pin_is_no_tag_to_publish(tag):
    """It would be moved, and prove what is not so."""
    with pytest.raises(UsageError, match="is the name of a pin"):
        target("-t", f"nas.lan:5000/app:{tag}")
