"""`archloom attach` and `archloom wait`, over a state folder that the test drives."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace

import pytest

from coordinator.domain.run.lease import Lease
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import TargetState
from coordinator.domain.run.status import Status, status
from coordinator.errors import Exit
from coordinator.store.processes import _started, this_driver
from tests.acceptance.archloom import COMMAND
from tests.edges.state.state_bed import DIGEST, TAG, dead_driver, state_bed
from tests.services.commands import Child
from tests.services.terminal import CTRL_C, terminal

CLOSING = f"published {TAG} {DIGEST} for linux/amd64 (none emulated) in 3.0 s"


@pytest.fixture
def bed(tmp_path):
    with state_bed(tmp_path / "home") as opened:
        yield opened


def lines(process: Child, until: str) -> list[str]:
    """What it says, up to the line with these words."""
    said = []
    with process.within():
        for line in process.stderr:
            said.append(line.rstrip("\n"))
            if until in line:
                return said
    raise AssertionError(f"no {until!r} in {said}")


def test_a_run_is_shown_from_its_beginning_until_it_ends(bed):
    """Who comes late misses nothing; the last line and the exit code are those of `build`."""
    bed.begin("7f3a81c0")
    attached = bed.home.start("attach", "7f3a")
    assert lines(attached, "run 7f3a") == [f"run 7f3a81c0: {TAG}, 1 platform"]

    bed.publish("7f3a81c0")
    _, err = attached.communicate(timeout=60)

    assert attached.returncode == 0
    assert [line.split()[-1] for line in err.splitlines()[:3]] == ["assigned", "make", "s"]
    assert err.splitlines()[-1] == CLOSING


def test_a_run_that_has_ended_is_shown_too(bed):
    """With the words and the code it ended with."""
    bed.begin("7f3a81c0")
    bed.fail("7f3a81c0")

    done = bed.home.run("attach", "7f3a81c0")

    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"run 7f3a81c0: {TAG}, 1 platform",
        "linux/amd64    pi5 native   assigned",
        "linux/amd64    pi5 native   FAILED (build): exit code: 2",
        "error: 1 of 1 platforms not built",
        "hint: the whole log: archloom logs 7f3a81c0",
    ]


def test_rawjson_is_what_build_prints(bed):
    """One object per event, with the time it was then: line by line what is recorded."""
    bed.begin("7f3a81c0")
    bed.publish("7f3a81c0")

    done = bed.home.run("attach", "7f3a", "--progress", "rawjson")

    assert done.stderr == (bed.home.state / "runs" / "7f3a81c0" / "events.jsonl").read_text()
    names = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert names == ["run_started", "assigned", "step_line", "verified", "run_ended"]


def test_an_end_that_is_not_recorded_is_in_the_store(bed):
    """A driver that died in its very last moment, a record that a full disk cut short, or none at all."""
    bed.begin("7f3a81c0")
    bed.fail("7f3a81c0", tell=False)
    bed.begin("81c07f3a")
    bed.publish("81c07f3a")
    (bed.home.state / "runs" / "81c07f3a" / "events.jsonl").unlink()

    failed, published = bed.home.run("attach", "7f3a"), bed.home.run("attach", "81c0")

    assert failed.returncode == 4
    assert failed.stderr.splitlines()[-2:] == [
        f"error: 1 of 1 platforms not built: linux/amd64 failed; {TAG} not touched",
        "hint: the whole log: archloom logs 7f3a81c0 linux/amd64",
    ]
    assert (published.returncode, published.stderr) == (0, f"published {TAG} {DIGEST}\n")


@pytest.mark.parametrize("words", [("attach",), ("wait",)])
def test_a_run_that_nobody_drives_is_not_waited_for(bed, words):
    """It says who did, and how to go on."""
    bed.begin("7f3a81c0", driver=dead_driver())

    done = bed.home.run(*words, "7f3a")

    assert done.returncode == 5
    *shown, error, hint = done.stderr.splitlines()
    assert shown == ([f"run 7f3a81c0: {TAG}, 1 platform"] if words == ("attach",) else [])
    assert error.startswith("error: nobody drives run 7f3a81c0 any more: ann@desk did, last heard of ")
    assert hint == "hint: go on with it: archloom resume 7f3a81c0"


def test_a_driver_that_dies_meanwhile_is_noticed(bed):
    """Who follows a run does not wait for ever."""
    driver = Child(["sleep", "600"])
    bed.begin("7f3a81c0", driver=of_process(driver.pid))
    attached = bed.home.start("attach", "7f3a")
    lines(attached, "run 7f3a")

    driver.kill()
    driver.wait(60)
    _, err = attached.communicate(timeout=60)

    assert attached.returncode == 5
    assert "nobody drives run 7f3a81c0 any more" in err


def of_process(pid: int):
    """The driver as this process would be told of it."""
    return replace(this_driver("ann@desk", "other"), pid=pid, started=_started(pid))


def test_ctrl_c_leaves_the_run_alone(bed):
    """It ends the view alone, and says so."""
    bed.begin("7f3a81c0")

    with terminal([COMMAND, "attach", "7f3a"], bed.home.environment, bed.home.folder) as shown:
        shown.expect("run 7f3a81c0")
        shown.type(CTRL_C)
        assert shown.end() == 130

    assert "run 7f3a81c0 goes on. Watch it again: archloom attach 7f3a81c0" in shown.shown
    assert "error" not in shown.shown
    assert bed.store.run("7f3a81c0").finished_at is None


def plain(shown: str) -> str:
    """Without colours and the moves of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_the_live_view_tells_the_seconds_of_the_run(bed):
    """Not those since somebody looked."""
    bed.at = 1000.0
    bed.begin("7f3a81c0")
    bed.at = 1060.0
    attempt = bed.assign("7f3a81c0")
    bed.at = 1102.5
    bed.complete("7f3a81c0", attempt)

    with terminal([COMMAND, "attach", "7f3a"], bed.home.environment, bed.home.folder) as shown:
        assert shown.end() == 0

    assert re.search(r"linux/amd64 +pi5 +native +42\.5 s +verified", plain(shown.shown))
    assert shown.shown.rstrip().endswith("in 3.0 s")


def test_wait_is_silent_and_ends_with_the_worst(bed):
    """For scripts: until all have ended, and not a word."""
    for name in ("7f3a81c0", "81c07f3a"):
        bed.begin(name)
    waiting = bed.home.start("wait", "7f3a", "81c0", "7f3a81c0")
    bed.publish("7f3a81c0")
    assert waiting.is_still(1.0)
    bed.fail("81c07f3a")

    assert waiting.communicate(timeout=60) == ("", "")
    assert waiting.returncode == 4
    assert bed.home.run("wait", "7f3a").returncode == 0


def test_wait_gives_up_when_it_is_told_to(bed):
    """`--timeout` is in seconds; the exit code is that of timeout(1), and of no run."""
    bed.begin("7f3a81c0")

    done = bed.home.run("wait", "7f3a", "--timeout", "0.3")

    assert (done.returncode, done.stderr) == (
        124,
        "error: 7f3a81c0 has not ended in 0.3 s\nhint: watch it: archloom attach 7f3a81c0\n",
    )


@pytest.mark.parametrize("command", ["attach", "wait", "logs", "why"])
def test_the_newest_run_where_none_is_named(bed, command):
    """As it is with `resume` and `retry`; where there is none, that is said."""
    none = bed.home.run(command)
    bed.begin("7f3a81c0")
    bed.publish("7f3a81c0")
    bed.begin("81c07f3a")
    bed.fail("81c07f3a")

    named, newest = bed.home.run(command, "81c0"), bed.home.run(command)

    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr == "error: there is no run yet\nhint: archloom build starts one\n"
    assert (newest.returncode, newest.stdout, newest.stderr) == (named.returncode, named.stdout, named.stderr)
    assert newest.returncode == (0 if command in ("logs", "why") else 4)


@pytest.mark.parametrize("words", [("attach",), ("wait",), ("logs",)])
@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("zz", "there is no run 'zz'\nhint: list"),
        ("7", "more than one run begins with '7': 7f3b81c0, 7f3a81c0\nhint: list"),
    ],
)
def test_a_run_that_is_not_meant_or_not_there(bed, words, run, says):
    """Exit 2, and where to look."""
    bed.begin("7f3a81c0")
    bed.begin("7f3b81c0")

    done = bed.home.run(*words, run)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {says} them with: archloom runs\n"


def test_ctrl_c_ends_a_wait(bed):
    """As any command."""
    bed.begin("7f3a81c0")
    waiting = bed.home.start("wait", "7f3a")
    assert waiting.is_still(1.5)

    waiting.send_signal(signal.SIGINT)

    assert waiting.communicate(timeout=60)[1] == "error: interrupted\n"
    assert waiting.returncode == 130


def test_what_becomes_of_a_run():
    """It is driven by a process that lives, or that was heard of lately where nobody can tell; its end is one word."""
    run = Run(id="1", request={}, target_state=TargetState.OPEN, index_digest="", jobs=())
    leased = replace(run, lease=Lease(driver=dead_driver(), beat_at=9.0))
    ended = replace(run, target_state=TargetState.INCOMPLETE, finished_at=1.0)

    assert status(run, 10.0, lambda _: True) is Status.INTERRUPTED
    assert status(leased, 10.0, lambda _: True) is Status.RUNNING
    assert status(leased, 10.0, lambda _: None) is Status.RUNNING
    assert status(leased, 100.0, lambda _: None) is Status.INTERRUPTED
    assert status(leased, 10.0, lambda _: False) is Status.INTERRUPTED
    ends = {code: status(replace(ended, exit_code=code), 10.0, lambda _: True) for code in Exit}
    assert {code: end for code, end in ends.items() if end is not Status.FAILED} == {
        Exit.DONE: Status.PUBLISHED,
        Exit.LOST: Status.LOST,
        Exit.INTERRUPTED: Status.CANCELLED,
    }
    conflict = replace(ended, target_state=TargetState.CONFLICT, exit_code=Exit.REGISTRY)
    assert status(conflict, 10.0, lambda _: True) is Status.CONFLICT
    assert {one for one in Status if not one.is_over} == {Status.RUNNING, Status.INTERRUPTED}
