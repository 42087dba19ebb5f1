"""The sweep of a host: what a run still needs stays, and what nobody needs goes."""

from __future__ import annotations

from coordinator.domain.hosts.inventory import Address, Host, Kind
from coordinator.farm.cleanup import sweep
from coordinator.hosts.agent.replies import JobEntry

NOW, DAY = 1_000_000.0, 24 * 3600.0
PI5 = Host(name="pi5", kind=Kind.BOARD, address=Address(host="pi5"), keep_built=DAY)


class Board:
    """The jobs on a host."""

    def __init__(self, *entries: JobEntry) -> None:
        self.entries = list(entries)

    async def jobs(self) -> list[JobEntry]:
        return self.entries

    async def forget(self, name: str) -> None:
        self.entries = [entry for entry in self.entries if entry.job != name]


def entry(job: str, age: float = 2 * DAY, state: str = "BUILT") -> JobEntry:
    return JobEntry(job=job, state=state, since=NOW - age)


async def test_an_old_image_that_a_run_needs_is_not_deleted():
    """A run that is resumed after the weekend, or that has taken an image over, publishes what was built."""
    board = Board(entry("needed"), entry("left"), entry("fresh", 1.0), entry("obsolete", 1.0))
    unwanted = {"needed": False, "obsolete": True}

    await sweep(board, PI5, NOW, unwanted.get)

    assert [left.job for left in board.entries] == ["needed", "fresh"]


async def test_a_build_of_somebody_else_goes_on_however_old_it_is():
    """Only what is unwanted is ended while it runs."""
    board = Board(entry("long", state="BUILDING"), entry("lost", state="BUILDING"))

    await sweep(board, PI5, NOW, {"lost": True}.get)

    assert [left.job for left in board.entries] == ["long"]
