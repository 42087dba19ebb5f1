"""The hosts of a run: what wakes its loop, and which of them come first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.placement.candidates import Candidates
from coordinator.domain.placement.schedule import Candidate
from coordinator.errors import LostError
from coordinator.farm.absences import Absences
from coordinator.run.hosts import RunHosts

ARM64 = parse("linux/arm64")
BEAST, BOARD = Candidate("beast", Mode.EMULATED), Candidate("pi5", Mode.NATIVE)


async def never(_: str) -> object:
    return await asyncio.get_running_loop().create_future()


async def test_a_host_that_is_given_up_before_the_wait_begins_ends_it():
    """Between the look and the wait the run writes to its store: what passes then must not be waited for."""
    changed = asyncio.Event()
    absences = Absences(never, changed.set)
    hosts = RunHosts(Candidates({ARM64: [BOARD]}), SimpleNamespace(absences=absences, changed=changed))
    absences.begin("pi5", LostError("it is off"), 0.001)
    changed.clear()

    waiting = hosts.change()
    while not absences.gone():
        pass
    await waiting

    await absences.close()


async def test_a_board_that_joins_comes_before_an_emulator():
    """Jobs that wait for a slot of the emulator are built natively."""
    hosts = RunHosts(Candidates({ARM64: [BEAST]}), None)

    assert hosts.join(Candidates({ARM64: [BOARD, BEAST]})) == {"pi5"}

    assert hosts.candidates == {ARM64: [BOARD, BEAST]}
