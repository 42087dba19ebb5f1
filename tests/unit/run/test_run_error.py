"""The error of a run that is over: which exit code, and about which platforms it speaks."""

from __future__ import annotations

import pytest

from coordinator.domain.causes import rule
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.run.run_error import run_error
from coordinator.domain.run.states import AttemptState, JobState, TargetState
from coordinator.errors import BuildFailedError, LostError, RegistryError, UsageError

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")
VERIFIED, FAILED, LOST = JobState.VERIFIED, JobState.FAILED, JobState.LOST
CANCELLED, SKIPPED = JobState.CANCELLED, JobState.SKIPPED


def run(*ends: tuple[JobState, str], fail_fast: bool = False) -> Run:
    """Jobs that ended in this order with this code; the code `-` is a job without an attempt."""
    jobs = tuple(
        Job(id=number, platform=parse(text), state=state, build_id="", attempts=() if code == "-" else tried(code))
        for number, (text, (state, code)) in enumerate(zip(PLATFORMS, ends, strict=False))
    )
    return Run(
        id="7f3a",
        request={"fail_fast": fail_fast},
        target_state=TargetState.INCOMPLETE,
        index_digest="",
        jobs=jobs,
    )


def tried(code: str) -> tuple[Attempt, ...]:
    attempt = Attempt(id=1, job_id=1, number=1, host="pi5", mode=Mode.NATIVE, state=AttemptState.LOST, code=code)
    return (attempt,)


def test_a_run_with_every_platform_verified_has_no_error():
    assert run_error(run((VERIFIED, ""), (VERIFIED, "-")), "nas/app:1") is None


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ([(VERIFIED, ""), (FAILED, "build")], BuildFailedError),
        ([(VERIFIED, ""), (FAILED, "network")], BuildFailedError),
        ([(VERIFIED, ""), (LOST, "disk")], LostError),
        ([(LOST, "-")], LostError),
        ([(CANCELLED, "")], LostError),
        ([(LOST, "registry")], RegistryError),
        ([(FAILED, "mismatch")], RegistryError),
        ([(LOST, "disk"), (FAILED, "build")], BuildFailedError),
        ([(FAILED, "build"), (LOST, "registry"), (LOST, "disk")], RegistryError),
        ([(FAILED, "melted")], BuildFailedError),
    ],
)
def test_the_worst_end_decides_the_exit_code(ends, kind):
    """The registry's refusal before the Dockerfile's fault before a host's."""
    error = run_error(run(*ends), "nas/app:1")

    assert type(error) is kind
    assert error.code == ""
    assert "nas/app:1" in error.message


@pytest.mark.parametrize(
    ("ends", "kind", "shown"),
    [
        ([(FAILED, "build"), (CANCELLED, "registry"), (SKIPPED, "-")], BuildFailedError, "linux/amd64"),
        ([(CANCELLED, "registry"), (LOST, "disk")], LostError, "linux/arm64"),
        ([(VERIFIED, ""), (CANCELLED, ""), (LOST, "registry")], RegistryError, "linux/arm/v7"),
        ([(CANCELLED, ""), (LOST, "-")], LostError, "linux/arm64"),
    ],
)
def test_what_fail_fast_stopped_decides_nothing(ends, kind, shown):
    """The exit code and the log to read are those of the job that stopped the others."""
    error = run_error(run(*ends, fail_fast=True), "nas/app:1")

    assert type(error) is kind
    assert error.hint.endswith(f" 7f3a {shown}")


@pytest.mark.parametrize(
    ("ends", "hint"),
    [
        ([(VERIFIED, ""), (LOST, "-"), (LOST, "disk"), (FAILED, "build")], "archloom logs 7f3a linux/arm/v7"),
        ([(VERIFIED, ""), (LOST, "-")], "archloom retry 7f3a"),
    ],
)
def test_the_hint_names_a_log_where_there_is_one(ends, hint):
    """Of the first job that a host has had; without any, the command that builds what is missing."""
    assert run_error(run(*ends), "nas/app:1").hint.endswith(hint)


@pytest.mark.parametrize(
    ("state", "code"), [(LOST, "memory"), (LOST, "read_only"), (FAILED, "network"), (FAILED, "build")]
)
def test_the_hint_says_what_cures_the_cause(state, code):
    """In front of the log, where something does."""
    log = "the whole log: archloom logs 7f3a linux/amd64"
    cure = rule(code).hint

    error = run_error(run((state, code)), "nas/app:1")

    assert error.hint == (f"{cure}\n{log}" if cure else log)
    assert bool(cure) is (code != "build")


@pytest.mark.parametrize("code", ["disk", "build", ""])
def test_each_bad_platform_is_named_with_its_state_and_cause(code):
    """The build's own fault is the usual one, and stays without its code."""
    shown = " (disk)" if code == "disk" else ""

    message = run_error(run((VERIFIED, ""), (LOST, code), (LOST, "-")), "nas/app:1").message

    assert f" linux/arm64 lost{shown}, linux/arm/v7 lost;" in message
    assert "linux/amd64" not in message


def test_a_run_that_left_platforms_out_built_what_it_was_to_build():
    """An error of usage, with a code of its own: the tags need what was left out."""
    error = run_error(run((VERIFIED, ""), (SKIPPED, "-"), (VERIFIED, ""), (SKIPPED, "-")), "nas/app:1")

    assert type(error) is UsageError
    assert error.code == "left_out"
    assert error.hint == "archloom retry 7f3a"
    assert error.message.startswith("linux/amd64, linux/arm/v7 ")
    assert "linux/arm64, linux/arm/v6" in error.message


def test_a_skipped_platform_beside_a_lost_one_is_a_loss():
    assert type(run_error(run((VERIFIED, ""), (SKIPPED, "-"), (LOST, "disk")), "nas/app:1")) is LostError
