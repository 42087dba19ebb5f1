"""BuildKit's trace: what the engine sent becomes the lines docker prints."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.buildkit_trace import Log, Status, Trace, Vertex, decode
from agents.engine.plain_progress import PlainProgress
from tests.services.paths import CASES

GOLDEN = sorted((CASES / "trace").iterdir())
SECOND = 10**9
STARTED = Vertex("a", "[1/1] RUN x", cached=False, started=5 * SECOND, completed=0, error="")


def messages(case: Path) -> list[bytes]:
    lines = map(json.loads, (case / "stream.jsonl").read_text("utf-8").splitlines())
    return [base64.b64decode(line["aux"]) for line in lines if line.get("id") == "moby.buildkit.trace"]


def render(*traces: Trace) -> str:
    log = io.BytesIO()
    plain = PlainProgress(log)
    for trace in traces:
        plain.feed(trace)
    return log.getvalue().decode()


def trace(*vertexes: Vertex, statuses: tuple[Status, ...] = (), logs: tuple[Log, ...] = ()) -> Trace:
    return Trace(vertexes, statuses, logs)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_a_recorded_build_reads_like_dockers_plain_progress(case):
    """Steps have their number, name, output with seconds, and end; every line is whole and belongs to a step."""
    assert render(*map(decode, messages(case))) == (case / "plain.txt").read_text("utf-8")


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_a_message_that_is_cut_is_refused(case):
    """Any part of a message is decoded or refused with ValueError: never read past its end, never another error."""
    longest = max(messages(case), key=len)

    for size in range(len(longest)):
        try:
            decode(longest[:size])
        except ValueError:
            continue


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused(data):
    """Anything is either a message, maybe an empty one, or a ValueError."""
    try:
        decode(data)
    except ValueError:
        return


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=6))
def test_output_is_the_same_however_it_is_cut(pieces):
    """Where BuildKit cuts a step's output does not show in the log."""
    whole = trace(STARTED, logs=(Log("a", 6 * SECOND, b"".join(pieces)),))
    cut = trace(STARTED, logs=tuple(Log("a", 6 * SECOND, piece) for piece in pieces))
    end = trace(STARTED._replace(completed=7 * SECOND))

    assert _bytes(whole, end) == _bytes(cut, end)


def _bytes(*traces: Trace) -> bytes:
    log = io.BytesIO()
    plain = PlainProgress(log)
    for one in traces:
        plain.feed(one)
    return log.getvalue()


def test_a_line_without_an_end_is_told_with_the_end_of_its_step():
    """What a program writes last needs no newline to be seen."""
    begun = trace(STARTED, logs=(Log("a", 6 * SECOND, b"almost"),))
    done = trace(STARTED._replace(completed=7 * SECOND, error="exit code: 1"))

    assert render(begun) == "#1 [1/1] RUN x\n"
    assert render(begun, done) == "#1 [1/1] RUN x\n#1 1.000 almost\n#1 ERROR: exit code: 1\n"


def test_a_bar_that_never_ends_its_line_is_told_in_pieces():
    """Memory for a line that goes on and on is bounded."""
    begun = trace(STARTED, logs=(Log("a", 6 * SECOND, b"." * 40000), Log("a", 6 * SECOND, b"." * 40000)))

    assert render(begun) == "#1 [1/1] RUN x\n#1 1.000 " + "." * 80000 + "\n"


def test_a_step_ends_once():
    """BuildKit repeats finished steps; the log does not."""
    done = trace(STARTED._replace(completed=6 * SECOND, cached=True))

    assert render(done, done) == "#1 [1/1] RUN x\n#1 CACHED\n"


def test_a_finished_transfer_is_told_with_its_size():
    """Work inside a step is told when it is done: its bytes in decimal units, and its seconds."""
    work = Status("transferring context:", "a", 5_680_000, 0, 5 * SECOND, 5 * SECOND + SECOND // 10)
    part = Status("sha256:1", "a", 1500, 3000, 5 * SECOND, 6 * SECOND)

    assert render(trace(STARTED, statuses=(work, part, work))) == (
        "#1 [1/1] RUN x\n#1 transferring context: 5.68MB 0.1s done\n#1 sha256:1 1.5kB / 3kB 1.0s done\n"
    )
