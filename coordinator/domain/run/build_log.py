"""A build log as it grows: BuildKit's plain progress output, parsed into the builder's steps.

The format is what `docker build --progress plain` prints since 18.09, and what the agent writes from an engine's trace.
It has no specification; the source is moby/buildkit util/progress/progressui. The lines of parallel steps interleave,
so every line has the number of its step:

    #7 [build 2/3] RUN make
    #7 0.310 cc -c a.c
    #7 ...
    #7 DONE 0.4s
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

TAIL_LINES = 20
# A log is whatever a host sends. A longer line is read in parts, and the oldest of more steps than these is forgotten.
_MAX_LINE, _MAX_STEPS = 1 << 20, 10_000
_STEP_LINE = re.compile(r"#(\d{1,9}) (.*)", re.DOTALL)
_POSITION = re.compile(r"\[(?:[^\]]* )?(\d{1,9})/(\d{1,9})\]")
_DONE = re.compile(r"DONE (\d+(?:\.\d+)?)s\Z")
_OUTPUT = re.compile(r"\d+\.\d+ ?")
# What clients put before the error of a failed build.
_ERROR_PREFIXES = re.compile(
    r"(?:#\d+ )?(?:ERROR: |failed to (?:build|solve)(?: with frontend [\w.]+)?: "
    r"|rpc error: code = Unknown desc = |failed to create LLB definition: )*"
)
# The line above and below the last output of the failing step, which clients repeat at the end of the log.
_FRAME = "------"
# Docker 20.10 prints a step's digest under its title.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class LineKind(StrEnum):
    """`output`: of the step's program, or transfer progress. `other`: blank, outside any step, or decoration."""

    STARTED = "started"
    RESUMED = "resumed"
    OUTPUT = "output"
    DONE = "done"
    CACHED = "cached"
    ERROR = "error"
    CANCELED = "canceled"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line, without its line end. `step` is the step's title where the line begins, resumes or ends it, else empty.

    `number` is the builder's number of the step, 0 outside any step; `index` of `total` is its position in its stage,
    0 where it has none; `seconds` is its duration, where the line has one.
    """

    text: str
    kind: LineKind
    step: str = ""
    number: int = 0
    index: int = 0
    total: int = 0
    seconds: float | None = None


@dataclass(slots=True)
class _Step:
    title: str
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class StepReader:
    """Parses the log from chunks of any size. It keeps at most 20 lines of each step that has not ended well."""

    def __init__(self) -> None:
        self._rest = ""
        self._steps: dict[int, _Step] = {}
        self._failing: _Step | None = None
        # The last lines with their step's number, 0 outside any, without those of steps that have ended well.
        self._last: deque[tuple[int, str]] = deque(maxlen=TAIL_LINES)
        self._in_frame = False

    def feed(self, text: str) -> list[LogLine]:
        """Return the lines that this chunk completes. Chunk boundaries do not change the lines."""
        *lines, self._rest = (self._rest + text).split("\n")
        parts = [part for line in lines for part in _parts(line)]
        if len(self._rest) > _MAX_LINE:
            *complete, self._rest = _parts(self._rest)
            parts += complete
        return [self._read(part.rstrip("\r")) for part in parts]

    def end(self) -> list[LogLine]:
        """Return the last line, where the log ended without a line end."""
        rest, self._rest = self._rest, ""
        return [self._read(rest.rstrip("\r"))] if rest else []

    @property
    def failing_step(self) -> str:
        """The title of the first step that ended with an error; empty where none did."""
        return self._failing.title if self._failing else ""

    def tail(self, message: str) -> tuple[str, ...]:
        """Return the last lines of the failing step's program; where no step failed, of those that had not ended.

        `message` is the error of the build, which is shown beside them: no line only repeats it.
        """
        if self._failing:
            return tuple(self._failing.tail)
        return tuple(line for _, line in self._last if not _repeats(line, message))

    def _read(self, line: str) -> LogLine:
        match = _STEP_LINE.match(line)
        is_edge = line == _FRAME
        self._in_frame = match is None and self._in_frame != is_edge
        if match is None:
            if line.strip() and not self._in_frame and not is_edge:
                self._last.append((0, line))
            return LogLine(text=line, kind=LineKind.OTHER)
        number, text = int(match[1]), match[2]
        # Step 0 is buildx's own, which never ends.
        if number and not _DIGEST.match(text):
            self._last.append((number, line))
        step = self._steps.get(number)
        if step is None:
            step = self._steps[number] = _Step(text)
            if len(self._steps) > _MAX_STEPS:
                del self._steps[next(iter(self._steps))]
            return _about(line, LineKind.STARTED, number, step)
        if text == step.title:
            return _about(line, LineKind.RESUMED, number, step)
        return self._read_in(step, line, number, text)

    def _read_in(self, step: _Step, line: str, number: int, text: str) -> LogLine:
        done = _DONE.match(text)
        if done is not None:
            self._forget(number, step)
            return _about(line, LineKind.DONE, number, step, float(done[1]))
        if text == "CACHED":
            self._forget(number, step)
            return _about(line, LineKind.CACHED, number, step)
        if text == "CANCELED":
            # An engine that goes away cancels what it was at: these lines are told.
            step.tail.clear()
            return _about(line, LineKind.CANCELED, number, step)
        if text.startswith("ERROR: "):
            self._failing = self._failing or step
            return _about(line, LineKind.ERROR, number, step)
        if text == "..." or _DIGEST.match(text):
            return LogLine(text=line, kind=LineKind.OTHER, number=number)
        output = _OUTPUT.match(text)
        # A line without a time is transfer progress, which says nothing of the failure.
        if output:
            step.tail.append(text[output.end() :])
        return LogLine(text=line, kind=LineKind.OUTPUT, number=number)

    def _forget(self, number: int, step: _Step) -> None:
        step.tail.clear()
        self._last = deque((last for last in self._last if last[0] != number), maxlen=TAIL_LINES)


def _parts(line: str) -> list[str]:
    return [line[start : start + _MAX_LINE] for start in range(0, max(len(line), 1), _MAX_LINE)]


def _repeats(line: str, message: str) -> bool:
    error = _ERROR_PREFIXES.sub("", line, count=1)
    return bool(error) and (error == message or message.endswith(f": {error}"))


def _about(line: str, kind: LineKind, number: int, step: _Step, seconds: float | None = None) -> LogLine:
    place = _POSITION.match(step.title)
    index, total = (int(place[1]), int(place[2])) if place else (0, 0)
    return LogLine(text=line, kind=kind, step=step.title, number=number, index=index, total=total, seconds=seconds)
