"""A transfer whose connection has broken does not keep the next one out."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.base.errors import AgentError
from agents.context.cache_gc import opened
from agents.context.receive import _alone, receive_empty
from agents.job.store import has_arrived
from tests.services.commands import Child
from tests.services.paths import ROOT

RECEIVING = """
import sys
from pathlib import Path
from agents.context.cache_gc import opened
from agents.context.receive import receive
state, job = Path(sys.argv[1]), Path(sys.argv[2])
with opened(state) as objects:
    receive(job, "k" * 32, sys.stdin.buffer, lambda said: print(said, flush=True), objects)
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "jobs" / "7f3a-arm64-1"
    folder.mkdir(parents=True)
    return folder


def test_a_transfer_that_hears_nothing_more_is_ended_by_the_next(tmp_path: Path, job: Path):
    """The board may take hours to notice that its coordinator is gone, and the coordinator is back at once."""
    words = [sys.executable, "-c", RECEIVING, str(tmp_path / "state"), str(job)]
    hangs = Child(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert hangs.stdin is not None
    assert hangs.stdout is not None
    with hangs.stdin, hangs.stdout:
        hangs.stdin.write(b'{"root": "%s", "entries": 1, "bytes": 1}\n' % (b"a" * 64))
        hangs.stdin.flush()
        with hangs.within(30):
            assert b"want" in hangs.stdout.readline()

        with opened(tmp_path / "state") as objects:
            receive_empty(job, "k" * 32, objects)

        assert has_arrived(job)
        assert hangs.wait(timeout=30) == -signal.SIGKILL


def test_two_transfers_of_one_process_do_not_meet(job: Path):
    """That is no broken connection: the second is refused."""
    with _alone(job), pytest.raises(AgentError, match="has held") as refused, _alone(job):
        pass
    assert refused.value.code == "busy"
