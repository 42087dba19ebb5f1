"""Builds that the agent ends: memory or disk that run out, and an emulator that stands still."""

from __future__ import annotations

import resource
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agents.base import memory
from agents.engine.guard import Guard, Thresholds, Watched, default_floor
from agents.job.spec import Limits
from tests.edges.agents.engine_bed import BUILD_CLIENTS, PATIENCE, came, gone, job, running, use_driver

MIB = 1 << 20
STALLS = Limits(memory_floor=0, stall_after=1.5)


class Build:
    """What a guard says of a build that goes on until the guard ends it."""

    def __init__(self, tmp_path: Path, limits: Limits, slot: int = 0, **thresholds: Any) -> None:
        self.log = tmp_path / "log"
        self.log.touch()
        self.ended = threading.Event()
        watched = Watched([str(tmp_path)], self.log, slot)
        self.guard = Guard(limits, watched, self.ended.set, Thresholds(**thresholds))

    def fault(self, within: float = PATIENCE) -> tuple[str, ...]:
        with self.guard:
            self.ended.wait(within)
        return tuple(self.guard.fault or ())


def memory_but_of(word: str) -> dict[str, int]:
    """A host of 2 GiB on which nothing runs but processes with this word in their command line."""
    used = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word.encode() in (process / "cmdline").read_bytes():
                used += int((process / "statm").read_text().split()[1]) * resource.getpagesize()
    return {"total": 2048 * MIB, "available": 2048 * MIB - used, "swap_free": 0}


@pytest.mark.parametrize(
    ("total", "floor"), [(512 * MIB, 64 * MIB), (4096 * MIB, int(4096 * MIB * 0.03)), (256 << 30, 512 * MIB)]
)
def test_the_floor_of_memory_follows_the_size_of_the_host(total, floor):
    """A Pi Zero keeps enough for its other work, and a large machine does not keep gigabytes."""
    assert default_floor(total) == floor


def test_pressure_is_read_as_a_share(tmp_path):
    """Of the last ten seconds; a kernel that does not count has no file, or one that cannot be read."""
    file = tmp_path / "memory"
    file.write_text(
        "some avg10=90.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=62.50 avg60=1.00 avg300=0.00 total=1\n"
    )

    assert memory.stalled_share(file) == 0.625
    assert memory.stalled_share(tmp_path / "none") is None
    file.write_text("")
    assert memory.stalled_share(file) is None


def test_a_build_that_leaves_too_little_memory_is_ended(tmp_path):
    """With what was left, and the limit by its name in the inventory."""
    state, code, message = Build(tmp_path, Limits(memory_floor=8 << 40)).fault()

    assert (state, code) == ("LOST", "memory")
    assert "MiB of memory and " in message
    assert message.endswith(" MiB of swap left, memory_floor is 8388608 MiB")


@pytest.mark.parametrize(
    ("stalled", "swap_free", "ended"),
    [
        (0.5, 1024, "nothing on the host got on for 50% of the last 10 s for want of memory"),
        (0.4, 1024, ""),
        (None, 1024, "32 MiB of memory and 1024 MiB of swap left, memory_floor is 64 MiB"),
        (0.0, 31, "32 MiB of memory and 31 MiB of swap left, memory_floor is 64 MiB"),
    ],
)
def test_a_host_that_swaps_is_judged_by_what_it_loses(tmp_path, stalled, swap_free, ended):
    """With swap left a machine may go on well below the floor, or thrash; without the kernel's count time decides."""
    now = {"total": 512 * MIB, "available": 32 * MIB, "swap_free": swap_free * MIB}
    build = Build(tmp_path, Limits(), left=lambda: now, stalled=lambda: stalled, swapping_s=0.5)

    fault = build.fault(PATIENCE if ended else 1.0)

    assert fault[1:] == (("memory", f"the build was ended: {ended}") if ended else ())


def test_builds_of_one_host_end_one_by_one(tmp_path):
    """The first that ends gives its memory back before the next one looks again."""
    now = {"total": 512 * MIB, "available": 0, "swap_free": 0}
    first, second = (Build(tmp_path, Limits(), slot, left=lambda: now) for slot in (0, 1))
    with second.guard, first.guard:
        assert first.ended.wait(PATIENCE)
        now["available"] = 256 * MIB
        assert not second.ended.wait(1.5)


def test_a_floor_of_nothing_ends_no_build(tmp_path):
    """The user's own word."""
    assert Build(tmp_path, Limits(memory_floor=0)).fault(within=0.5) == ()


def test_a_build_that_leaves_too_little_disk_is_ended(tmp_path):
    """The limit is a part of a small disk, and no more than 64 MiB of a large one."""
    assert Build(tmp_path, Limits(memory_floor=0)).fault(within=0.5) == ()

    state, code, message = Build(tmp_path, Limits(memory_floor=0), disk_floor=1 << 60, disk_share=1.0).fault()

    assert (state, code) == ("LOST", "disk")
    assert f"MiB of disk left below {tmp_path}, limit " in message


def test_an_emulated_build_that_stands_still_is_ended(tmp_path):
    """No line of the log, and a host that is idle: here any host is."""
    state, code, message = Build(tmp_path, STALLS, busy_share=1.1).fault()

    assert (state, code) == ("LOST", "emulator")
    assert "the emulator stands still" in message


def test_a_build_goes_on_where_its_host_is_busy(tmp_path):
    """It may compute for hours without a line."""
    assert Build(tmp_path, STALLS, busy_share=-1.0).fault(within=4.0) == ()


def test_a_build_goes_on_where_its_log_does(tmp_path):
    """Each line begins the time anew."""
    build = Build(tmp_path, STALLS, busy_share=1.1)
    over = threading.Event()

    def write() -> None:
        with build.log.open("ab", buffering=0) as log:
            while not over.wait(0.3):
                log.write(b"#5 0.1 a line\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert build.fault(within=4.0) == ()
    finally:
        over.set()
        writer.join(PATIENCE)


@pytest.mark.engine
@pytest.mark.parametrize("driver", BUILD_CLIENTS)
def test_a_step_that_eats_the_memory_ends_with_its_build(driver, tmp_path, monkeypatch, engine):
    """The step's process is gone, and the job is lost with the reason. Of the host's memory it alone counts."""
    use_driver(driver, tmp_path, monkeypatch)
    eater = '["/bin/busybox", "sh", "-c", "echo started; sleep 2; dd if=/dev/zero bs=901M count=1 | sleep 4711081"]'
    dockerfile = f'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "/bin"]\nRUN {eater}\n'
    limits = {"memory_floor": 1536 * MIB, "stall_after": None}
    thresholds = Thresholds(left=lambda: memory_but_of("bs=901M"))

    with (
        job(tmp_path, driver, dockerfile, limits=limits) as made,
        running(made.build(thresholds), made, "started") as answers,
    ):
        assert came(answers, PATIENCE), made.log
        assert gone("4711081", 5.0)

    assert [(answer["state"], answer["code"]) for answer in answers] == [("LOST", "memory")], made.log


@pytest.mark.engine
@pytest.mark.usefixtures("emulation")
@pytest.mark.parametrize("driver", BUILD_CLIENTS)
def test_an_emulated_step_that_hangs_ends_with_its_build(driver, tmp_path, monkeypatch, engine):
    """QEMU dies as the container's first process, which no signal of its own ends: it is idle for ever."""
    use_driver(driver, tmp_path, monkeypatch)
    crash = '["/bin/busybox", "sh", "-c", "QEMU_CPU=arm1176 exec /bin/busybox sleep 4711082"]'
    dockerfile = f"FROM scratch\nCOPY busybox /bin/busybox\nRUN {crash}\n"
    limits = {"memory_floor": 0, "stall_after": 3.0}

    with job(tmp_path, driver, dockerfile, "linux/arm/v7", limits=limits) as made:
        result = made.build(Thresholds(busy_share=1.1)).run()

    assert (result["state"], result["code"]) == ("LOST", "emulator"), made.log
    assert gone("4711082", PATIENCE)
