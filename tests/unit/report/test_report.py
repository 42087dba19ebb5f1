"""What a person and a program are told."""

from __future__ import annotations

import io
import json
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TextIO

import pytest
from rich.console import Console

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.events import (
    Assigned,
    AttemptEnded,
    Notice,
    Phase,
    PhaseEnded,
    Place,
    Preparing,
    RegistryBack,
    RegistryWait,
    Reused,
    RunEnded,
    RunStarted,
    Skipped,
    StepLine,
    TagMoved,
    Verified,
    Waiting,
)
from coordinator.report.lines import lines
from coordinator.report.live import _Display, live
from coordinator.report.rawjson import to_json_line
from coordinator.report.watch import Progress, watching

PLACE = Place(platform=parse("linux/arm/v7"), host="beast", mode=Mode.EMULATED)
DIGEST = "sha256:" + "ab" * 32
FAILED = AttemptEnded(
    place=PLACE, state="failed", code="build", message="exit code: 2", step="[2/3] RUN make", tail=("cc: no", "make: 2")
)
ENDED = RunEnded(
    run="7f3a",
    exit_code=0,
    digest=DIGEST,
    tags=("nas/app:1",),
    platforms={"linux/amd64": "native", "linux/arm/v7": "emulated"},
    seconds=12.34,
)
EVENTS = [
    Notice("no inventory"),
    Preparing("reading /src"),
    RunStarted(run="7f3a", tags=("nas/app:1",), platforms=(PLACE.platform,), log_folder="/x"),
    Reused(platform=PLACE.platform, digest=DIGEST, pin="archloom-1"),
    Waiting(PLACE.platform, "busy"),
    Assigned(PLACE, "assigned"),
    Phase(PLACE, "push", "50 %"),
    StepLine(PLACE, "#5 0.1 armv7l", "[2/3] RUN make"),
    FAILED,
    Verified(place=PLACE, digest=DIGEST, pin="archloom-1", seconds=2.0),
    PhaseEnded(PLACE, "push", 1.5),
    TagMoved(reference="nas/app:1", digest=DIGEST, previous=""),
    Skipped(PLACE.platform, "linux/amd64 failed (--fail-fast)"),
    ENDED,
]


def test_every_line_of_a_build_says_platform_host_and_mode():
    """Whoever reads one line of the log knows where it comes from."""
    for event in EVENTS[5:10]:
        assert lines(event)[0].split()[:3] == ["linux/arm/v7", "beast", "emulated"]


def test_a_wait_for_a_registry_says_who_since_when_and_until_when():
    """And which hosts keep what meanwhile, so that nobody fears for it."""
    wait = RegistryWait(
        registry="nas:5000",
        text="cannot push a layer to nas:5000/app: service unavailable (503)",
        seconds=40.2,
        tries=4,
        left=259.8,
        platforms=(PLACE.platform,),
        kept={"linux/arm64": "pi4", "linux/arm/v7": "pi4", "linux/amd64": "beast"},
    )

    (line,) = lines(wait)
    assert line.startswith("registry nas:5000: cannot push a layer to nas:5000/app: service unavailable (503); since ")
    assert line.endswith("40 s, try 4; pi4 keeps linux/arm64, linux/arm/v7; beast keeps linux/amd64; gives up in 4 min")
    assert lines(replace(wait, kept={}))[0].endswith("(503); since 40 s, try 4; gives up in 4 min")
    back = RegistryBack(registry="nas:5000", seconds=43.4, tries=5)
    assert lines(back) == ["registry nas:5000 serves again after 43 s, 5 tries"]


def test_a_live_view_has_a_wait_for_a_registry_beside_its_platforms():
    """The first line of it stays on the screen, and so does each of a wait of the whole run."""
    wait = RegistryWait(registry="nas:5000", text="503", seconds=0.0, tries=1, left=300.0, platforms=(PLACE.platform,))
    stream = io.StringIO()
    with live(stream) as watch:
        for event in (wait, replace(wait, tries=2, text="504"), replace(wait, tries=3, text="505", platforms=())):
            watch(event)

    text = stream.getvalue()
    assert text.count("registry nas:5000: 503; try 1; gives up in 5 min") == 1
    assert "registry nas:5000: 504" in text.splitlines()[-1]
    assert "registry nas:5000: 505; try 3; gives up in 5 min" in text


def test_a_failure_shows_its_step_and_last_lines():
    """The reader need not scroll: what failed, where, and the last lines are together."""
    assert [line.strip() for line in lines(FAILED)] == [
        "linux/arm/v7   beast emulated FAILED (build) at [2/3] RUN make: exit code: 2",
        "last 2 lines:",
        "| cc: no",
        "| make: 2",
    ]


def test_a_failure_with_one_line_has_a_last_line():
    assert lines(replace(FAILED, tail=("cc: no",)))[1:] == ["  last line:", "  | cc: no"]


def test_the_last_line_of_a_good_run_tells_it_all():
    """Tag, digest, platforms, what was emulated, and time, in one line."""
    assert lines(ENDED) == [
        f"published nas/app:1 {DIGEST} for linux/amd64, linux/arm/v7 (emulated: linux/arm/v7) in 12.3 s"
    ]


def test_rawjson_is_one_object_per_event_with_the_place_spread_out():
    """A program reads when it was, platform, host and mode beside the event's own fields."""
    for event in EVENTS:
        assert json.loads(to_json_line(event, 1.5))["event"]

    step = json.loads(to_json_line(EVENTS[7], 1790000000.12345))

    assert step == {
        "event": "step_line",
        "at": 1790000000.123,
        "platform": "linux/arm/v7",
        "host": "beast",
        "mode": "emulated",
        "text": "#5 0.1 armv7l",
        "step": "[2/3] RUN make",
    }


def test_a_report_that_is_no_terminal_is_plain():
    """`auto` writes plain lines where nobody can see a live view."""
    stream = io.StringIO()
    with watching(Progress.AUTO, stream) as watch:
        for event in EVENTS:
            watch(event)

    assert "linux/arm/v7   beast emulated #5 0.1 armv7l" in stream.getvalue()
    assert stream.getvalue().splitlines()[-1].startswith("published nas/app:1")


def test_quiet_says_only_what_went_wrong():
    """A quiet run is silent until something fails."""
    stream = io.StringIO()
    with watching(Progress.QUIET, stream) as watch:
        for event in EVENTS:
            watch(event)

    assert stream.getvalue().splitlines() == lines(FAILED)


def test_a_build_cannot_drive_the_terminal():
    """Colours are dropped and other control characters are spelled out."""
    said = lines(StepLine(PLACE, "#5 0.1 \x1b[31mred\x1b[0m \x1b[2Jgone\x07", ""))[0]

    assert said.endswith(r"#5 0.1 red \x1b[2Jgone\x07")


RUDE = "\x1b]0;mine\x07[bold]\x1b[2J\x9b2J\u202e"
RUDE_PLACE = Place(platform=PLACE.platform, host=RUDE, mode=Mode.NATIVE)
# Who else uses a board, what a file is called, what a registry answers: nobody here wrote any of it.
RUDE_EVENTS = [
    Notice(RUDE),
    Waiting(PLACE.platform, RUDE),
    Assigned(RUDE_PLACE, RUDE),
    Phase(RUDE_PLACE, RUDE, RUDE),
    StepLine(RUDE_PLACE, RUDE, RUDE),
    Reused(platform=PLACE.platform, digest=RUDE, pin=RUDE),
    Verified(place=RUDE_PLACE, digest=RUDE, pin=RUDE, seconds=1.0),
    TagMoved(reference=RUDE, digest=RUDE, previous=RUDE),
    AttemptEnded(place=RUDE_PLACE, state=RUDE, code=RUDE, message=RUDE, step=RUDE, tail=(RUDE,)),
    Skipped(PLACE.platform, RUDE),
    RunEnded(run=RUDE, exit_code=0, digest=RUDE, tags=(RUDE,), platforms={RUDE: "emulated"}),
]


@pytest.mark.parametrize("event", RUDE_EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("progress", [Progress.PLAIN, Progress.TTY])
def test_nothing_that_is_told_can_drive_the_terminal(progress, event):
    """Whoever wrote it: control characters are spelled out, and what looks like markup is text."""
    stream = io.StringIO()
    with watching(progress, stream) as watch:
        watch(event)

    assert not [char for char in stream.getvalue() if not char.isprintable() and char != "\n"]
    assert r"\x1b]0;mine\x07[bold]\x1b[2J" in stream.getvalue().replace("\n", "")


def test_a_narrow_terminal_keeps_the_platforms():
    """What is cut is the step: two platforms never look the same."""
    console = Console(width=50, file=io.StringIO(), force_terminal=True)
    board = _Display()
    board.place(PLACE).step = "[2/3] RUN " + "x" * 100
    console.print(board)

    assert "linux/arm/v7  beast  emulated" in console.file.getvalue()


@contextmanager
def open_terminal() -> Iterator[tuple[TextIO, int]]:
    """A stream to a real terminal, and the end of it that a window holds."""
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "w", encoding="utf-8")
    try:
        yield stream, ours
    finally:
        with suppress(OSError):  # what is still in its buffer has no reader
            stream.close()


@pytest.mark.parametrize("progress", list(Progress))
@pytest.mark.parametrize("seen", range(len(EVENTS) + 1))
def test_a_terminal_that_is_closed_ends_nothing(progress, seen):
    """The terminal is a viewer: whenever it is gone the report is silent, and the run goes on to its end."""
    with open_terminal() as (stream, window), watching(progress, stream) as watch:
        for event in EVENTS[:seen]:
            watch(event)
        os.close(window)
        for event in EVENTS[seen:]:
            watch(event)


def test_a_terminal_that_is_closed_before_anything_is_shown():
    """As when a command is started by a terminal that closes at once."""
    with open_terminal() as (stream, window):
        os.close(window)
        with watching(Progress.TTY, stream) as watch:
            for event in EVENTS:
                watch(event)


def test_the_live_view_keeps_failures_and_the_closing_line():
    """Failures stay above the moving lines; the last line on the screen is the closing one."""
    stream = io.StringIO()
    with live(stream) as watch:
        for event in EVENTS:
            watch(event)

    assert "cc: no" in stream.getvalue()
    assert stream.getvalue().rstrip().splitlines()[-1].endswith("in 12.3 s")


@pytest.mark.parametrize(
    ("message", "says"), [("cancelled", ""), ("", ""), ("linux/amd64 failed", ": linux/amd64 failed")]
)
def test_a_word_is_not_said_twice(message, says):
    """The state is the reason where there is no other."""
    event = AttemptEnded(place=PLACE, state="cancelled", code="", message=message)

    assert lines(event) == [f"linux/arm/v7   beast emulated CANCELLED{says}"]
