"""A log is told from any byte on, once, and to its end."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base import process, state
from agents.base.errors import AgentError
from agents.job.follow import follow
from tests.services.commands import Child

PATIENCE = 60.0

LOGS = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet="aü€😀\n", max_size=100).map(str.encode),
    # Lines longer than an event may be, with characters cut anywhere.
    st.tuples(st.binary(min_size=1, max_size=7), st.integers(20000, 40000)).map(lambda pair: pair[0] * pair[1]),
)


def ended_job(log: bytes) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    Path(folder.name, "log").write_bytes(log)
    Path(folder.name, "result.json").write_text(json.dumps({"state": "BUILT", "log_size": len(log)}))
    return folder


def told(folder: str, offset: int) -> list[tuple[str, int]]:
    pieces: list[tuple[str, int]] = []
    result = follow(Path(folder), offset, lambda text, after: pieces.append((text, after)), threading.Event())
    assert result is not None
    assert result["state"] == "BUILT"
    return pieces


@given(LOGS, st.data())
def test_any_offset_gives_the_rest_of_the_log(log: bytes, data: st.DataObject):
    """From every offset the pieces are the log's own rest, and every piece's offset is one to go on from."""
    offset = data.draw(st.integers(0, len(log)))
    with ended_job(log) as folder:
        pieces = told(folder, offset)
        again = data.draw(st.sampled_from([offset, *(after for _, after in pieces)]))
        rest = told(folder, again)

    assert "".join(text for text, _ in pieces) == log[offset:].decode("utf-8", "replace")
    assert "".join(text for text, _ in rest) == "".join(text for text, after in pieces if after > again)
    assert [after for _, after in pieces] == sorted({after for _, after in pieces})
    assert all(len(text.encode()) <= 3 * 65536 for text, _ in pieces)


def test_an_offset_beyond_the_end_gives_nothing():
    """A coordinator that knows more than the host has gets the result alone."""
    with ended_job(b"short\n") as folder:
        assert told(folder, 100) == []


def test_what_is_written_after_the_end_is_not_told():
    """The result says how long the log is; what a stray process adds is no part of it."""
    with ended_job(b"line\n") as folder:
        with Path(folder, "log").open("ab") as log:
            log.write(b"stray\n")
        assert told(folder, 0) == [("line\n", 5)]


def test_the_end_of_a_job_is_told_at_once(tmp_path: Path):
    """Not with the next look at its log."""
    (tmp_path / "log").write_bytes(b"begun\n")
    (tmp_path / "spec.json").write_text("{}")
    with Child(["sleep", "600"]) as child:
        status = Path(f"/proc/{child.pid}/stat").read_text()
        start = int(status.rpartition(")")[2].split()[19])
        process.write(tmp_path, process.Process(child.pid, start, state.boot_id(), 0))
        began, seen = time.monotonic(), []

        def tell(text: str, _offset: int) -> None:
            seen.append(text)
            child.kill()

        result = follow(tmp_path, 0, tell, threading.Event(), poll=PATIENCE)

    assert result is not None
    assert (result["code"], seen) == ("vanished", ["begun\n"])
    assert time.monotonic() - began < PATIENCE


def test_a_job_whose_process_was_stopped_is_given_up(tmp_path: Path):
    """It lives, and will never write its result; one that gives signs of life is followed."""
    (tmp_path / "log").touch()
    (tmp_path / "heartbeat").touch()
    with Child(["sleep", "60"]) as stopped:
        start = process.start_time(stopped.pid)
        assert start is not None
        process.write(tmp_path, process.Process(stopped.pid, start, state.boot_id(), 0))
        with pytest.raises(AgentError, match="has stood still for") as still:
            follow(tmp_path, 0, lambda *_: None, threading.Event(), 0.01, 0.2)
        stopped.kill()

    assert still.value.code == "vanished"
