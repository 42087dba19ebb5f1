"""The live view of a terminal: one line per platform that changes in place; permanent lines are printed above."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import short
from coordinator.domain.run.events import (
    Assigned,
    AttemptEnded,
    Emit,
    Event,
    Kept,
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
from coordinator.domain.visible import visible
from coordinator.report.lines import lines, waiting, why_ended

_FRAMES_PER_S = 8
_STYLE = {"done": "green", "failed": "red", "lost": "red", "cancelled": "yellow", "skipped": "yellow"}


@dataclass(slots=True)
class _Row:
    host: str = ""
    mode: str = ""
    state: str = "waits"
    step: str = ""
    since: float = 0.0
    until: float | None = None

    def elapsed(self, now: float) -> str:
        if not self.host:
            return ""
        return f"{(self.until or now) - self.since:.1f} s"


class _Display:
    """The rows on the screen, by platform, rendered again for each frame so that the seconds advance."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows: dict[Platform, _Row] = {}
        self.clock = clock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, 2), expand=True)
        now = self.clock()
        cells = [(str(platform), visible(row.host), row.mode, row.elapsed(now)) for platform, row in self.rows.items()]
        for column in range(4):
            # The full width: on a narrow terminal only the step is cut.
            width = max((len(row[column]) for row in cells), default=0)
            table.add_column(no_wrap=True, min_width=width, justify="right" if column == 3 else "left")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row, words in zip(self.rows.values(), cells, strict=True):
            # `Text`, because rich would parse a plain string as markup.
            table.add_row(*map(Text, words), Text(visible(row.step), style=_STYLE.get(row.state, "")))
        yield table

    def place(self, place: Place) -> _Row:
        row = self.rows.setdefault(place.platform, _Row())
        if row.host != place.host:
            row.host, row.mode, row.since, row.until = place.host, place.mode, self.clock(), None
        return row

    def end(self, platform: Platform, state: str, step: str) -> None:
        row = self.rows.setdefault(platform, _Row())
        row.state, row.step, row.until = state, step, self.clock()


@contextlib.contextmanager
def live(stream: TextIO, clock: Callable[[], float] = time.monotonic) -> Iterator[Emit]:
    """Show a live view on `stream`, which is a terminal. The closing line stays after the view has ended.

    `clock` counts seconds, from any start.
    """
    console = Console(file=stream, highlight=False)
    board = _Display(clock)
    last: list[str] = []
    with Live(board, console=console, refresh_per_second=_FRAMES_PER_S, transient=False) as view:

        def watch(event: Event) -> None:
            if isinstance(event, RunEnded):
                last.extend(lines(event))
            for text in _kept(event):
                view.console.print(Text(text))
            _show(board, event)

        yield watch
    for text in last:
        console.print(Text(text))


def _kept(event: Event) -> list[str]:
    match event:
        case Notice() | Preparing() | RunStarted() | Skipped() | AttemptEnded() | Kept() | RegistryBack() | TagMoved():
            return lines(event)
        case RegistryWait() if event.tries == 1 or not event.platforms:
            # Afterwards the rows of the platforms have it.
            return lines(event)
        case _:
            return []


def _show(board: _Display, event: Event) -> None:
    match event:
        case RunStarted():
            board.rows = {platform: _Row() for platform in event.platforms}
        case Waiting(platform, reason):
            board.rows.setdefault(platform, _Row()).step = f"waits: {reason}"
        case Assigned(place, reason):
            board.rows[place.platform] = _Row(host=place.host, mode=place.mode, step=reason, since=board.clock())
        case Phase(place, name, text):
            board.place(place).step = f"{name} {text}".strip()
        case StepLine(place, _, step):
            row = board.place(place)
            row.step = step or row.step
        case Reused() | Skipped() | AttemptEnded() | Kept() | Verified():
            _show_end(board, event)
        case RegistryWait():
            for platform in event.platforms:
                board.rows.setdefault(platform, _Row()).step = waiting(event)
        case Notice() | Preparing() | PhaseEnded() | RegistryBack() | TagMoved() | RunEnded():
            pass


def _show_end(board: _Display, event: Reused | Skipped | AttemptEnded | Kept | Verified) -> None:
    match event:
        case Reused():
            board.end(event.platform, "done", f"reused {short(event.digest)}")
        case Skipped(platform, reason):
            board.end(platform, "skipped", f"skipped: {reason}")
        case AttemptEnded():
            board.place(event.place)
            board.end(event.place.platform, event.state, f"{event.state}{why_ended(event)}")
        case Kept():
            board.place(event.place)
            board.end(event.place.platform, "lost", f"not published, kept: {event.message}")
        case Verified():
            board.place(event.place)
            board.end(event.place.platform, "done", f"verified {short(event.digest)}")
