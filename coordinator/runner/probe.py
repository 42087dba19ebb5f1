"""Probe: what every host is now, asked of all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from coordinator.domain.facts import Facts, read_facts
from coordinator.domain.fit import Unreachable
from coordinator.domain.inventory import Inventory
from coordinator.errors import ArchloomError
from coordinator.runner.around import Around
from coordinator.runner.farm import Farm

_PROBE_TIMEOUT_S = 30.0


async def probe(farm: Farm, clock: Callable[[], float]) -> dict[str, Facts | Unreachable]:
    """What every host of the farm is. A host that does not answer costs its own place only."""
    names = list(farm.hosts)
    return dict(zip(names, await asyncio.gather(*(_probe(farm, name, clock) for name in names)), strict=True))


async def probe_all(inventory: Inventory, around: Around) -> dict[str, Facts | Unreachable]:
    """What every host of the inventory is now."""
    async with Farm(inventory, around) as farm:
        return await probe(farm, around.clock)


async def _probe(farm: Farm, name: str, clock: Callable[[], float]) -> Facts | Unreachable:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            client = await farm.client(name)
            asked = clock()
            observation = await client.probe()
            now = clock()
    except TimeoutError:
        return Unreachable(f"no answer to the probe in {_PROBE_TIMEOUT_S:.0f} s", alive=True)
    except ArchloomError as error:
        return Unreachable(error.message, error.hint)
    facts = read_facts(name, observation, now=now, round_trip=now - asked)
    farm.facts[name] = facts
    return facts
