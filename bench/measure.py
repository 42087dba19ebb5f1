"""Figures that can be trusted on a noisy machine: two commands in turn, pair by pair, and the ratio of each pair."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


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
    ratios = [one / other for one, other in pairs]
    return Compared(
        statistics.median(one for one, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """The command, quietly; its output is shown when it fails."""
    whole = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=whole, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}\nexit status {done.returncode}")


def peak_memory(command: Sequence[str]) -> int:
    """Peak resident bytes of the command or of a process it waited for, whichever is the largest."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            raise SystemExit(output.read().decode())
    return usage.ru_maxrss * 1024
