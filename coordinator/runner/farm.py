"""The hosts of the inventory as one run knows them: connected when first needed, probed all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from coordinator.domain.facts import Facts, read_facts
from coordinator.domain.fit import Unreachable
from coordinator.domain.inventory import Host, Inventory, Kind
from coordinator.errors import ArchloomError, UsageError
from coordinator.hosts.agent import AgentClient, connect
from coordinator.hosts.local import local
from coordinator.hosts.transport import ConnectionHandler, Transport, Tunnel
from coordinator.runner.around import Around
from coordinator.runner.sweep import sweep

_PROBE_TIMEOUT_S = 30.0
# QEMU builds are mostly single-threaded; more of them than this only share the disk.
_MOST_AUTOMATIC_SLOTS = 4


class Farm:
    """Connections by host name. `broker` serves the tunnels; `None` where nothing will be carried."""

    def __init__(self, inventory: Inventory, around: Around, broker: ConnectionHandler | None = None) -> None:
        self._hosts = {host.name: host for host in inventory.hosts}
        self._around = around
        self._broker = broker
        self._locks = {name: asyncio.Lock() for name in self._hosts}
        self._transports: dict[str, Transport] = {}
        self._clients: dict[str, AgentClient] = {}
        self._tunnels: dict[str, Tunnel] = {}
        self.facts: dict[str, Facts] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(tunnel.close() for tunnel in self._tunnels.values()))
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        await asyncio.gather(*(transport.close() for transport in self._transports.values()))

    @property
    def slots(self) -> Mapping[str, int]:
        """How many jobs each probed host takes from us at once: `jobs`, or one, and more on an emulator with cores."""
        return {name: _slots(self._hosts[name], facts) for name, facts in self.facts.items()}

    async def probe(self) -> dict[str, Facts | Unreachable]:
        """What every host is, asked of all at once. A host that does not answer costs its own place only."""
        names = list(self._hosts)
        return dict(zip(names, await asyncio.gather(*map(self._probe, names)), strict=True))

    async def client(self, name: str) -> AgentClient:
        """The agent on this host, connected; anew where the connection was lost. Raises LostError."""
        async with self._locks[name]:
            client = self._clients.get(name)
            if client is None or client.lost:
                client = await connect(self._transport(name))
                self._clients[name] = client
            return client

    async def tunnel(self, name: str) -> int:
        """The port on the host's loopback that leads to the broker."""
        async with self._locks[name]:
            if name not in self._tunnels:
                if self._broker is None:
                    raise ValueError("this farm carries nothing")
                self._tunnels[name] = await self._transport(name).listen(self._broker)
            return self._tunnels[name].port

    async def sweep(self, has_ended: Callable[[str], bool]) -> None:
        """Removes from every probed host what no run can want any more; `has_ended` tells of our own runs by id."""
        async with asyncio.TaskGroup() as group:
            for name, facts in self.facts.items():
                host_time = self._around.clock() + (facts.clock_offset or 0.0)
                group.create_task(sweep(self._clients[name], self._hosts[name], host_time, has_ended))

    async def _probe(self, name: str) -> Facts | Unreachable:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                client = await self.client(name)
                asked = self._around.clock()
                observation = await client.probe()
                now = self._around.clock()
        except TimeoutError:
            return Unreachable(f"no answer to the probe in {_PROBE_TIMEOUT_S:.0f} s", alive=True)
        except ArchloomError as error:
            return Unreachable(error.message, error.hint)
        facts = read_facts(name, observation, now=now, round_trip=now - asked)
        self.facts[name] = facts
        return facts

    def _transport(self, name: str) -> Transport:
        if name not in self._transports:
            host = self._hosts[name]
            if not host.address.is_local:
                raise UsageError(
                    f"boards over SSH ({host.address}) cannot be used yet",
                    hint="hosts that are `local` work; archloom plan shows what they can build",
                )
            self._transports[name] = local(self._around.environ, name)
        return self._transports[name]


async def probe_all(inventory: Inventory, around: Around) -> dict[str, Facts | Unreachable]:
    """What every host of the inventory is now."""
    async with Farm(inventory, around) as farm:
        return await farm.probe()


def _slots(host: Host, facts: Facts) -> int:
    if host.jobs is not None:
        return host.jobs
    return min(max(facts.cores, 1), _MOST_AUTOMATIC_SLOTS) if host.kind is Kind.EMULATOR else 1
