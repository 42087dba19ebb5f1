"""Ends a build before it harms its host, or where it stands still: it watches memory, disk and the log.

A board often has other work, such as the DNS of a home, and a machine that thrashes answers nobody. Without cgroups or
root the agent cannot limit a step; it can end the build.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from agents.base import memory
from agents.base.disk import least_room
from agents.engine.failure_cause import Fault
from agents.job.spec import Limits

_MIB = 1 << 20
_POLL_S = 0.2
_LEAST_FLOOR, _MOST_FLOOR, _FLOOR_SHARE = 64 * _MIB, 512 * _MIB, 0.03
_DISK_FLOOR, _DISK_SHARE = 64 * _MIB, 0.01
# With this share of ten seconds without progress a machine thrashes; systemd-oomd waits for 0.6 of thirty.
_STALLED_SHARE = 0.5
# Where the kernel does not count that: so long below the floor, with swap left, means swapping.
_SWAPPING_S = 10.0
# Builds of one host must not all end at once: each waits by its slot, and looks again.
_SLOT_S = 0.6
_BUSY_SHARE = 0.05
# The host must be idle in each of so many parts of the time.
_IDLE_PARTS = 15
_STAT = Path("/proc/stat")


class Watched(NamedTuple):
    """What of the host is watched. `folders` are those of the engine and the job's; `slot` is the job's."""

    folders: Sequence[str]
    log: Path
    slot: int


class Thresholds(NamedTuple):
    """What is too little or too much on any host, and who tells how much memory there is.

    `stalled`: the share of the last ten seconds in which no program got on for want of memory. `swapping_s`: for how
    long less than the floor may be left where there is swap, and nobody tells that share.
    """

    left: Callable[[], dict[str, int] | None] = memory.read
    stalled: Callable[[], float | None] = memory.stalled_share
    swapping_s: float = _SWAPPING_S
    disk_floor: int = _DISK_FLOOR
    disk_share: float = _DISK_SHARE
    busy_share: float = _BUSY_SHARE


class Guard:
    """Context manager around a build. `end` is called once, by another thread, when `fault` is set."""

    def __init__(
        self, limits: Limits, watched: Watched, end: Callable[[], None], thresholds: Thresholds | None = None
    ) -> None:
        self.fault: Fault | None = None
        self._folders = watched.folders
        self._thresholds = thresholds or Thresholds()
        self._memory = _Memory(limits.memory_floor, watched.slot, self._thresholds)
        self._silence: _Silence | None = None
        if limits.stall_after is not None:
            self._silence = _Silence(watched.log, limits.stall_after, self._thresholds.busy_share)
        self._end = end
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Guard:  # noqa: PYI034 - Self came with Python 3.11
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finished.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            fault = self._memory.fault() or self._disk_fault() or (self._silence.fault() if self._silence else None)
            if fault is not None:
                self.fault = fault
                self._end()
                return
            if self._finished.wait(_POLL_S):
                return

    def _disk_fault(self) -> Fault | None:
        room = least_room(self._folders)
        if room is None or room.bytes >= min(
            self._thresholds.disk_floor, int(room.total * self._thresholds.disk_share)
        ):
            return None
        left, floor = room.bytes // _MIB, self._thresholds.disk_floor // _MIB
        return Fault(
            "LOST", "disk", f"the build was ended: {left} MiB of disk left below {room.folder}, limit {floor} MiB"
        )


class _Memory:
    def __init__(self, floor: int | None, slot: int, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._floor = floor
        self._wait = slot * _SLOT_S
        self._since: float | None = None

    def fault(self) -> Fault | None:
        now = self._thresholds.left()
        if now is None or self._floor == 0:
            return None
        words = self._shortage(now)
        if not words:
            self._since = None
            return None
        self._since = time.monotonic() if self._since is None else self._since
        wait, reason = words
        return Fault("LOST", "memory", f"the build was ended: {reason}") if self._lasts(wait) else None

    def _lasts(self, seconds: float) -> bool:
        return self._since is not None and time.monotonic() - self._since >= seconds + self._wait

    def _shortage(self, now: dict[str, int]) -> tuple[float, str] | None:
        """Return for how many seconds a shortage may last, and its words; None where there is none."""
        stalled = self._thresholds.stalled()
        if stalled is not None and stalled >= _STALLED_SHARE:
            return 0.0, f"nothing on the host got on for {stalled:.0%} of the last 10 s for want of memory"
        floor = default_floor(now["total"]) if self._floor is None else self._floor
        if now["available"] >= floor:
            return None
        left, swap = now["available"] // _MIB, now["swap_free"] // _MIB
        words = f"{left} MiB of memory and {swap} MiB of swap left, memory_floor is {floor // _MIB} MiB"
        if now["available"] + now["swap_free"] < floor:
            return 0.0, words
        return (self._thresholds.swapping_s, words) if stalled is None else None


def default_floor(total: int) -> int:
    """Return how many bytes of memory stay free on a host with so many, where the inventory has no `memory_floor`."""
    return max(_LEAST_FLOOR, min(_MOST_FLOOR, int(total * _FLOOR_SHARE)))


class _Silence:
    """Whether no byte of the log came for `seconds`, and the host did nothing meanwhile."""

    def __init__(self, log: Path, seconds: float, busy_share: float) -> None:
        self._log = log
        self._seconds = seconds
        self._busy_share = busy_share
        self._size = -1
        self._since = self._part_since = time.monotonic()
        self._times = _cpu_times()

    def fault(self) -> Fault | None:
        now, size = time.monotonic(), _size(self._log)
        if size != self._size:
            self._size = size
            self._begin(now)
        elif now - self._part_since >= self._seconds / _IDLE_PARTS:
            times = _cpu_times()
            if not _idle(self._times, times, self._busy_share):
                self._begin(now)
            self._part_since, self._times = now, times
        if now - self._since < self._seconds:
            return None
        words = (
            f"no line of the log for {self._seconds / 60:.0f} min while the host was idle: the emulator stands still"
        )
        return Fault("LOST", "emulator", f"the build was ended: {words}")

    def _begin(self, now: float) -> None:
        self._since = self._part_since = now
        self._times = _cpu_times()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _idle(before: tuple[int, int], after: tuple[int, int], busy_share: float) -> bool:
    idle, total = after[0] - before[0], after[1] - before[1]
    return total > 0 and 1 - idle / total < busy_share


def _cpu_times() -> tuple[int, int]:
    """Return the ticks in which this host's processors were idle, and all of them: proc(5), /proc/stat.

    Time in which a disk is waited for is not idle.
    """
    try:
        words = _STAT.read_text(encoding="ascii", errors="replace").split("\n", 1)[0].split()[1:9]
        times = [int(word) for word in words]
        return times[3], sum(times)
    except (OSError, ValueError, IndexError):
        return 0, 0
