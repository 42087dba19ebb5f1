"""Figures that can be trusted on a noisy machine: ways of doing the same in turn, and the ratios of each round."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.services.commands import Child, run_limited

# No command of a measurement takes longer: a big context on one slow core takes minutes.
LIMIT = 900.0


@dataclass(frozen=True, slots=True)
class Compared:
    """Medians in seconds, and the median of the ratios of each pair with its least and greatest."""

    ours: float
    theirs: float
    ratio: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return (
            f"ours {self.ours:.3f} s, theirs {self.theirs:.3f} s, "
            f"ratio {self.ratio:.2f} (from {self.least:.2f} to {self.greatest:.2f})"
        )


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    runs: int = 5,
    before: Callable[[], object] = lambda: None,
) -> Compared:
    """Each once to warm up, then in turn: what slows the machine down slows both. `before` each, outside its time."""

    def timed(work: Callable[[], object]) -> float:
        before()
        return seconds(work)

    timed(ours)
    timed(theirs)
    pairs = [(timed(ours), timed(theirs)) for _ in range(runs)]
    return compared([one for one, _ in pairs], [other for _, other in pairs])


def compared(ours: Sequence[float], theirs: Sequence[float]) -> Compared:
    """Figures of the same rounds, in their order. A ratio to nothing is infinite."""
    ratios = [one / other if other else float("inf") for one, other in zip(ours, theirs, strict=True)]
    return Compared(
        statistics.median(ours), statistics.median(theirs), statistics.median(ratios), min(ratios), max(ratios)
    )


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, limit: float = LIMIT) -> str:
    """What the command prints. Its output is shown when it fails, or takes more than `limit` seconds."""
    whole = {**os.environ, **(environment or {})}
    try:
        done = run_limited(command, env=whole, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise SystemExit("\n".join([str(error), *error.__notes__])) from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}\nexit status {done.returncode}")
    return str(done.stdout)


def peak_memory(command: Sequence[str], environment: Mapping[str, str] | None = None, limit: float = LIMIT) -> int:
    """Peak resident bytes of the command or of a process it waited for, whichever is the largest."""
    with tempfile.TemporaryFile() as output:
        child = Child(command, env={**os.environ, **(environment or {})}, stdout=output, stderr=output)
        timer = threading.Timer(limit, child.end)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            raise SystemExit(f"{output.read().decode()}\nexit status {child.returncode}")
    return usage.ru_maxrss * 1024
