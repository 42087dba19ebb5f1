"""No run of the tests hangs: a test has its time, and so has every process that it starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.services.commands import Child, run_limited
from tests.services.descendants import descendants
from tests.services.paths import ROOT

INHERITED = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
# It prints its pid, since its command line is that of many others.
ORPHAN = "setsid sh -c 'echo $$; exec sleep 600' & exec sleep {seconds}"


def outcome_of(folder: Path, text: str, *words: str, before: tuple[str, ...] = ()) -> tuple[int, str]:
    """Runs tests as this project's are run; the exit code and what is printed."""
    file = folder / "test_made.py"
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest", *words, str(file)]
    done = run_limited([*before, *command], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def lives(pid: int) -> bool:
    """Whether it is more than the entry of one that has ended."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}


def test_a_test_that_hangs_is_ended_and_named_and_the_next_one_runs(tmp_path: Path) -> None:
    """The report has the test, the line, and the processes it waited for: pid, age and what they were called with."""
    hanging = """
import subprocess
def test_hangs():
    subprocess.run(["sh", "-c", "sleep 601; true"])
def test_goes_on(): pass
"""
    code, said = outcome_of(tmp_path, hanging, "--timeout=4")
    _, _, named = said.partition("processes that lived when the time was over")
    found = re.findall(r"(?m)^pid (\d+), \d+ s: (.*)$", named)
    for pid, _ in found:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)

    assert code == 1
    assert "1 failed, 1 passed" in said
    assert re.search(r"FAILED .*test_hangs - Failed: Timeout \(>4\.0s\)", said)
    assert '>       subprocess.run(["sh", "-c", "sleep 601; true"])' in said
    assert [command for _, command in found] == ["sh -c sleep 601; true", "sleep 601"]


def test_a_coroutine_that_hangs_is_named(tmp_path: Path) -> None:
    """The stack is the loop's: the report says what each task waits for, and where."""
    hanging = """
import asyncio
async def inner():
    await asyncio.Event().wait()
async def test_hangs():
    await inner()
"""
    code, said = outcome_of(tmp_path, hanging, "--timeout=8")

    assert code == 1
    _, _, named = said.partition("tasks that waited when the time was over")
    assert re.search(r"test_made\.py:6, test_hangs\n.*test_made\.py:4, inner\n.*Event\.wait\n", named)


def test_what_comes_after_a_test_has_its_time_too(tmp_path: Path) -> None:
    """A fixture that hangs at the end of a test that has failed, and one that is waited for though it was ended."""
    hanging = """
import threading
import pytest
@pytest.fixture
def hangs():
    yield
    try:
        threading.Event().wait()
    finally:
        threading.Event().wait()
def test_fails(hangs):
    assert not "a failure"
"""
    code, said = outcome_of(tmp_path, hanging, "--timeout=4")

    assert code == 1
    assert "1 failed, 1 error" in said
    assert re.search(r"ERROR .*test_fails - Failed: Timeout", said)


def test_children_meet_signals_as_if_nobody_had_ignored_any(tmp_path: Path) -> None:
    """Whatever the run of the tests inherits: SIGINT from a shell's background, SIGHUP from nohup, blocked ones."""
    looks = """
import subprocess
def test_looks():
    status = subprocess.check_output(["cat", "/proc/self/status"], text=True)
    words = dict(line.split(":\\t", 1) for line in status.splitlines())
    assert [int(words[name], 16) for name in ("SigIgn", "SigBlk")] == [0, 0]
"""
    code = f"""
import os, signal, sys
for number in {tuple(map(int, INHERITED))}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGALRM])
os.execvp(sys.argv[1], sys.argv[1:])
"""
    code, said = outcome_of(tmp_path, looks, before=(sys.executable, "-c", code))

    assert (code, "1 passed" in said) == (0, True), said


def test_a_command_that_takes_too_long_is_ended_with_all_it_started() -> None:
    """Also a grandchild in a session of its own. The error has the command, the limit and what was printed."""
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as slow:
        run_limited(["sh", "-c", ORPHAN.format(seconds=602)], capture_output=True, text=True, timeout=5.0)

    assert time.monotonic() - began < 60
    assert "sleep 602" in str(slow.value)
    assert "5.0 seconds" in str(slow.value)
    [printed] = slow.value.__notes__
    assert not lives(int(printed))


def test_an_orphan_that_holds_a_pipe_is_ended() -> None:
    """Its parent is gone, and it has left its session: who reads the pipe waits for it only."""
    with pytest.raises(subprocess.TimeoutExpired) as slow:
        run_limited(["sh", "-c", ORPHAN.format(seconds=0)], capture_output=True, text=True, timeout=5.0)

    assert not lives(int(slow.value.output))


def test_a_line_that_never_comes_is_waited_for_so_long_only() -> None:
    """The lines before it are read as they come."""
    with Child(["sh", "-c", "echo one; exec sleep 603"], stdout=subprocess.PIPE, text=True) as child:
        assert child.line() == "one\n"
        with pytest.raises(subprocess.TimeoutExpired, match=r"sleep 603.* 0\.2 seconds"):
            child.line(0.2)
    assert child.returncode == -signal.SIGKILL


def test_what_was_printed_at_once_is_read_in_two_ways():
    """A line of it, and then all the rest: a reader that buffers would have kept the rest to itself."""
    child = Child(["printf", "one\ntwo\nthree\n"], stdout=subprocess.PIPE, text=True)

    assert child.line() == "one\n"
    assert child.communicate()[0] == "two\nthree\n"


def test_a_child_ends_with_a_block_that_fails() -> None:
    """What the block was to tell it has not been told."""
    with pytest.raises(ZeroDivisionError), Child(["sleep", "604"]) as child:
        _ = 1 / 0
    assert child.returncode == -signal.SIGKILL


def test_an_orphan_is_known_by_its_session() -> None:
    """Its parent is the kernel's first process by then."""
    with Child(["sh", "-c", "sleep 605 & echo $!"], stdout=subprocess.PIPE, text=True) as child:
        orphan = int(child.line())
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert [one.pid for one in descendants(child.pid)] == [orphan]
        assert orphan in {one.pid for one in descendants(os.getpid())}
        child.end()
