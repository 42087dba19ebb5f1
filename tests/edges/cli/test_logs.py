"""`archloom logs`, over a state folder that the test drives."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coordinator.domain.run.states import AttemptEvent, JobEvent
from tests.acceptance.archloom import COMMAND
from tests.edges.state.state_bed import AMD64, ARM64, dead_driver, state_bed
from tests.services.commands import Child, run_limited
from tests.services.terminal import CTRL_C, terminal


@pytest.fixture
def bed(tmp_path):
    with state_bed(tmp_path / "home") as opened:
        yield opened


def expect(process: Child, *lines: str) -> None:
    for line in lines:
        assert process.line() == f"{line}\n"


def test_a_log_that_grows_is_followed_until_the_run_ends(bed):
    """What it has, what comes, and no waiting for more when there can be no more."""
    bed.begin("7f3a81c0")
    attempt = bed.assign("7f3a81c0")
    for event in (AttemptEvent.SEND, AttemptEvent.SENT):
        bed.store.move_attempt(attempt, event)
    bed.log("7f3a81c0", "#1 one\n#1 tw")
    following = bed.home.start("logs", "7f3a", "-f")
    expect(following, "#1 one")

    bed.log("7f3a81c0", "o\n#1 three")
    expect(following, "#1 two")
    bed.store.move_attempt(attempt, AttemptEvent.FAIL)
    bed.store.move_job(bed.store.run("7f3a81c0").jobs[0].id, JobEvent.FAIL)

    assert following.communicate(timeout=60) == ("#1 three\n", "linux/amd64 on pi5 (native), attempt 1: failed\n")
    assert following.returncode == 0


def test_several_logs_are_told_apart(bed):
    """Whose lines they are stands above them, again whenever it changes."""
    bed.begin("7f3a81c0", platforms=(AMD64, ARM64))
    for job in bed.store.run("7f3a81c0").jobs:
        bed.store.assign(job.id, f"on-{job.platform.slug}", "native")
    bed.log("7f3a81c0", "a\n")
    following = bed.home.start("logs", "7f3a", "-f")
    expect(following, "==> linux/amd64 on on-amd64 (native), attempt 1 <==", "a")

    bed.log("7f3a81c0", "b\n", platform=ARM64)
    expect(following, "==> linux/arm64 on on-arm64 (native), attempt 1 <==", "b")
    bed.log("7f3a81c0", "c\n")
    expect(following, "==> linux/amd64 on on-amd64 (native), attempt 1 <==", "c")

    following.kill()
    following.communicate()


def test_one_platform_is_followed_to_its_own_end(bed):
    """Whatever the others do."""
    bed.begin("7f3a81c0", platforms=(AMD64, ARM64))
    bed.assign("7f3a81c0")
    bed.log("7f3a81c0", "a\n")
    bed.log("7f3a81c0", "b\n", platform=ARM64)
    job = bed.store.run("7f3a81c0").jobs[0]
    bed.store.move_attempt(job.attempts[0].id, AttemptEvent.CANCEL)
    bed.store.move_job(job.id, JobEvent.CANCEL)

    done = bed.home.run("logs", "7f3a", "linux/amd64", "-f")

    assert (done.returncode, done.stdout) == (0, "a\n")


def test_a_run_that_nobody_drives_is_not_followed_for_ever(bed):
    """What there is is shown, and how to go on."""
    bed.begin("7f3a81c0", driver=dead_driver())
    bed.assign("7f3a81c0")
    bed.log("7f3a81c0", "a\n")

    plain, followed = bed.home.run("logs", "7f3a"), bed.home.run("logs", "7f3a", "-f")

    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout == followed.stdout == "a\n"
    assert followed.returncode == 5
    assert "nobody drives run 7f3a81c0" in followed.stderr


def test_ctrl_c_ends_the_following_without_a_word(bed):
    """As `tail -f` does."""
    bed.begin("7f3a81c0")
    bed.assign("7f3a81c0")
    bed.log("7f3a81c0", "a\n")

    with terminal([COMMAND, "logs", "7f3a", "-f"], bed.home.environment, bed.home.folder) as shown:
        shown.expect("a\n")
        shown.type(CTRL_C)
        assert shown.end() == 130

    assert shown.shown in ("a\n", "a\n^C")


def test_why_there_is_no_log(bed):
    """It may not have begun, never have begun, or be gone."""
    bed.begin("7f3a81c0")
    attempt = bed.assign("7f3a81c0")
    assert why_none(bed) == "no log yet"

    bed.store.move_attempt(attempt, AttemptEvent.LOSE, code="connection", message="the cable")
    assert why_none(bed) == "no log: it ended before the build began; lost (connection): the cable"

    folder = bed.home.state / "runs" / "7f3a81c0"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert why_none(bed).startswith("no log: it was deleted; ")


def why_none(bed) -> str:
    done = bed.home.run("logs", "7f3a")
    assert done.stdout == ""
    return done.stderr.removeprefix("linux/amd64 on pi5 (native), attempt 1: ").rstrip("\n")


def test_what_went_wrong_after_the_build_is_told_behind_its_log(bed):
    """A push that is lost for good is in no build's log; the log alone goes to stdout."""
    bed.begin("7f3a81c0")
    attempt = bed.assign("7f3a81c0")
    for event in (AttemptEvent.SEND, AttemptEvent.SENT, AttemptEvent.BUILT, AttemptEvent.PUSH):
        bed.store.move_attempt(attempt, event)
    bed.log("7f3a81c0", "#1 DONE\n")
    assert bed.home.run("logs", "7f3a").stderr == ""
    bed.store.move_attempt(attempt, AttemptEvent.LOSE, code="push", message="it broke off")

    done = bed.home.run("logs", "7f3a")

    assert done.stdout == "#1 DONE\n"
    assert done.stderr == "linux/amd64 on pi5 (native), attempt 1: lost (push): it broke off\n"


def test_several_attempts_are_told_apart(bed):
    """Of one platform too."""
    bed.begin("7f3a81c0")
    attempt = bed.assign("7f3a81c0")
    bed.log("7f3a81c0", "a\n")
    bed.store.move_attempt(attempt, AttemptEvent.LOSE)
    bed.store.move_job(bed.store.run("7f3a81c0").jobs[0].id, JobEvent.RETRY)
    bed.assign("7f3a81c0", host="pi4")
    bed.log("7f3a81c0", "b\n", number=2)

    assert bed.home.run("logs", "7f3a").stdout.splitlines() == [
        "==> linux/amd64 on pi5 (native), attempt 1 <==",
        "a",
        "==> linux/amd64 on pi4 (native), attempt 2 <==",
        "b",
    ]


def test_the_newest_run_where_none_is_named(bed):
    """Also where a platform is."""
    for name in ("7f3a81c0", "81c07f3a"):
        bed.begin(name)
        bed.assign(name)
        bed.log(name, f"{name}\n")

    newest, platform = bed.home.run("logs"), bed.home.run("logs", "linux/amd64")

    assert newest.stdout == platform.stdout == "81c07f3a\n"


@pytest.mark.parametrize("more", [(), ("-f",)])
def test_a_platform_the_run_has_not(bed, more):
    """Those it has are named, also where the word is no platform at all."""
    bed.begin("7f3a81c0")

    other, no = bed.home.run("logs", "7f3a", "linux/arm64", *more), bed.home.run("logs", "7f3a", "arm", *more)

    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr == "error: run 7f3a81c0 has no linux/arm64\nhint: it has linux/amd64\n"
    assert (no.returncode, no.stderr) == (2, "error: unknown platform 'arm'\nhint: did you mean linux/arm/v7?\n")


def test_a_disk_that_takes_no_log_is_no_bug(bed):
    """Standard output may be a file on a full disk."""
    bed.begin("7f3a81c0")
    bed.assign("7f3a81c0")
    bed.log("7f3a81c0", "a\n")

    with Path("/dev/full").open("w") as full:
        done = run_limited(
            [COMMAND, "logs", "7f3a"],
            env=bed.home.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert done.returncode == 2
    assert done.stderr == (
        "error: cannot write to standard output: No space left on device\n"
        "hint: the command itself has finished; see archloom runs\n"
    )
