"""Writes traces as the lines of `docker build --progress plain`, the format of every job's log."""

from __future__ import annotations

from typing import BinaryIO

from agents.engine.buildkit_trace import Log, Status, Trace, Vertex

_S_PER_NS = 1e-9
# A program may draw a progress bar for hours without a newline.
_MAX_LINE_BYTES = 65536


class _Step:
    def __init__(self, number: int, started: int) -> None:
        self.number = number
        self.started = started
        self.rest = b""
        self.rest_at = 0
        self.done = False
        self.reported: set[str] = set()


class PlainProgress:
    """Writes whole lines only, each of one build step. Build steps are numbered in the order they start."""

    def __init__(self, log: BinaryIO) -> None:
        self._file = log
        self._steps: dict[str, _Step] = {}
        self._last = 0

    def feed(self, trace: Trace) -> None:
        # One message covers many build steps: write them one by one, each with its name first and its end last.
        digests = (
            *(vertex.digest for vertex in trace.vertexes),
            *(log.vertex for log in trace.logs),
            *(status.vertex for status in trace.statuses),
        )
        for digest in dict.fromkeys(digests):
            vertexes = [vertex for vertex in trace.vertexes if vertex.digest == digest]
            for vertex in vertexes:
                self._start(vertex)
            for log in trace.logs:
                if log.vertex == digest:
                    self._log(log)
            for status in trace.statuses:
                if status.vertex == digest:
                    self._status(status)
            for vertex in vertexes:
                self._end(vertex)

    def _start(self, vertex: Vertex) -> None:
        if not vertex.started or vertex.digest in self._steps:
            return
        step = self._steps[vertex.digest] = _Step(len(self._steps) + 1, vertex.started)
        self._line(step, vertex.name.replace("\n", "\\n").encode())

    def _log(self, log: Log) -> None:
        step = self._steps.get(log.vertex)
        if step is None:
            return
        if not step.rest:
            step.rest_at = log.timestamp
        *lines, step.rest = (step.rest + log.data).split(b"\n")
        for line in lines:
            self._output(step, line)
            step.rest_at = log.timestamp
        if len(step.rest) > _MAX_LINE_BYTES:
            self._flush(step)

    def _status(self, status: Status) -> None:
        step = self._steps.get(status.vertex)
        if step is None or not status.completed or status.id in step.reported:
            return
        step.reported.add(status.id)
        size = ""
        if status.total or status.current:
            size = f" {_size(status.current)}" + (f" / {_size(status.total)}" if status.total else "")
        took = f" {(status.completed - status.started) * _S_PER_NS:.1f}s" if status.started else ""
        self._line(step, f"{status.id}{size}{took} done".encode())

    def _end(self, vertex: Vertex) -> None:
        step = self._steps.get(vertex.digest)
        if step is None or step.done or not vertex.completed:
            return
        step.done = True
        self._flush(step)
        if vertex.error.endswith("context canceled"):
            self._line(step, b"CANCELED")
        elif vertex.error:
            self._line(step, f"ERROR: {vertex.error}".encode())
        elif vertex.cached:
            self._line(step, b"CACHED")
        else:
            self._line(step, f"DONE {(vertex.completed - vertex.started) * _S_PER_NS:.1f}s".encode())

    def _flush(self, step: _Step) -> None:
        if step.rest:
            self._output(step, step.rest)
            step.rest = b""

    def _output(self, step: _Step, text: bytes) -> None:
        seconds = max(0.0, (step.rest_at - step.started) * _S_PER_NS)
        places = 3 if seconds < 10 else 2 if seconds < 100 else 1
        self._line(step, b"%b %b" % (f"{seconds:.{places}f}".encode(), text.rstrip(b"\r")))

    def _line(self, step: _Step, text: bytes) -> None:
        # Like docker, put an empty line between lines of different build steps.
        gap = b"\n" if self._last not in {0, step.number} else b""
        self._last = step.number
        self._file.write(b"%b#%d %b\n" % (gap, step.number, text))


def _size(count: int) -> str:
    """Return a size in docker's format: three digits, decimal units."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:.3g}TB"
