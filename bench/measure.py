"""Timing that can be trusted on a noisy machine: two commands in turn, pair by pair, and the ratio of each pair."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
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


def compare(ours: Callable[[], object], theirs: Callable[[], object], runs: int = 5) -> Compared:
    """Each once to warm up, then in turn: what slows the machine down slows both."""
    ours()
    theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(runs)]
    ratios = [one / other for one, other in pairs]
    return Compared(
        statistics.median(one for one, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def run(command: Sequence[str], **options: object) -> None:
    """The command, quietly; its output is shown when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\nexit status {done.returncode}")


def peak_memory(command: Sequence[str]) -> tuple[int, int]:
    """Peak resident bytes of the command itself and of the largest of the processes it waited for."""
    script = (
        "import os, resource, subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "pid, status, usage = os.wait4(child.pid, 0)\n"
        "print(usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))\n"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True)
    peak, status = map(int, done.stdout.split())
    if status:
        raise SystemExit(done.stderr)
    return peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
