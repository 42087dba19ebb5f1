"""The hosts of the inventory as one run knows them: connected when first needed, with a tunnel while one is used."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from coordinator.domain.causes import Cause, rule
from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Inventory, Kind
from coordinator.environment import Environment
from coordinator.errors import LostError
from coordinator.farm.cleanup import sweep
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.local import local
from coordinator.hosts.agent.transport import ConnectionHandler, Transport, Tunnel
from coordinator.hosts.ssh.login_limiter import Handshakes

_FAREWELL_S = 5.0
# How long a host that was there may be away.
_RETURN_S, _PAUSE_S = 30.0, 1.0
# QEMU builds are mostly single-threaded; more of them than this only share the disk.
_MOST_AUTOMATIC_SLOTS = 4


@dataclass(slots=True)
class _Shared:
    """A tunnel and how many use it now."""

    tunnel: Tunnel
    users: int = 0


class Farm:
    """Connections by host name. `broker` serves the tunnels; `None` where nothing will be carried.

    `facts` are of the hosts that were probed: `runner.probe` puts them there.
    """

    def __init__(self, inventory: Inventory, env: Environment, broker: ConnectionHandler | None = None) -> None:
        self._hosts = {host.name: host for host in inventory.hosts}
        self._env = env
        self._broker = broker
        self._handshakes = Handshakes()
        self._locks = {name: asyncio.Lock() for name in self._hosts}
        self._transports: dict[str, Transport] = {}
        self._clients: dict[str, AgentClient] = {}
        self._tunnels: dict[str, _Shared] = {}
        self.facts: dict[str, Facts] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = [asyncio.create_task(client.close()) for client in self._clients.values()]
        if closing:
            # A host that has gone away without a word is not waited for until that is certain.
            _, late = await asyncio.wait(closing, timeout=_FAREWELL_S)
            for task in late:
                task.cancel()
        outcomes = await asyncio.gather(*closing, return_exceptions=True)
        outcomes += await asyncio.gather(
            *(transport.close() for transport in self._transports.values()), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def slots(self) -> Mapping[str, int]:
        """How many jobs each probed host takes from us at once: `jobs`, or one, and more on an emulator with cores."""
        return {name: slots_of(self._hosts[name], facts) for name, facts in self.facts.items()}

    def facts_of(self, name: str) -> Facts:
        """What this host is. Raises LostError for one that gave no answer to this run's probe."""
        try:
            return self.facts[name]
        except KeyError:
            raise LostError(
                f"host '{name}' did not answer when this run was taken up", code=Cause.UNREACHABLE
            ) from None

    def slots_of(self, name: str) -> int:
        """How many jobs this host takes from us at once. Raises LostError as `facts_of` does."""
        return slots_of(self._hosts[name], self.facts_of(name))

    @property
    def hosts(self) -> Mapping[str, Host]:
        """Every host of the inventory, by name and in its order."""
        return self._hosts

    async def client(self, name: str) -> AgentClient:
        """The agent on this host, connected; anew where the connection was lost. Raises LostError."""
        if name not in self._hosts:
            raise LostError(f"host '{name}' is not in the inventory any more", code=Cause.UNREACHABLE)
        async with self._locks[name]:
            last = self._clients.get(name)
            if last is not None and not last.lost:
                return last
            client = self._clients[name] = await connect(self._transport(name))
            if last is not None:
                # What the host has not noticed yet: its side of a connection that is gone holds a push.
                await client.hang_up(last.hello)
            return client

    async def reached_again(self, name: str) -> AgentClient:
        """As `client`, but patient: who was away, for a cable that was pulled, has half a minute to come back."""
        until = asyncio.get_running_loop().time() + _RETURN_S
        while True:
            try:
                return await self.client(name)
            except LostError as error:
                if not rule(error.code).may_return or asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(_PAUSE_S)

    @contextlib.asynccontextmanager
    async def tunnel(self, name: str) -> AsyncIterator[int]:
        """A port on the host's loopback that leads to the broker, as long as anybody is inside. Raises LostError."""
        shared = await self._shared(name)
        try:
            yield shared.tunnel.port
        finally:
            shared.users -= 1
            if not shared.users:
                if self._tunnels.get(name) is shared:
                    del self._tunnels[name]
                await shared.tunnel.close()

    async def _shared(self, name: str) -> _Shared:
        async with self._locks[name]:
            shared = self._tunnels.get(name)
            if shared is None or shared.tunnel.lost:
                if self._broker is None:
                    raise ValueError("this farm carries nothing")
                shared = self._tunnels[name] = _Shared(await self._transport(name).listen(self._broker))
            shared.users += 1
            return shared

    @contextlib.asynccontextmanager
    async def sweeping(self, unwanted: Callable[[str], bool]) -> AsyncIterator[None]:
        """Removes from every probed host what no run can want any more, beside what the block does.

        `unwanted` tells of our own jobs, by their names on hosts.
        """
        sweeps = [
            asyncio.create_task(
                sweep(
                    self._clients[name],
                    self._hosts[name],
                    self._env.clock() + (facts.clock_offset or 0.0),
                    unwanted,
                )
            )
            for name, facts in self.facts.items()
        ]
        try:
            yield
            if sweeps:
                await asyncio.wait(sweeps, timeout=_FAREWELL_S)
        finally:
            for task in sweeps:
                task.cancel()
            for outcome in await asyncio.gather(*sweeps, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    def _transport(self, name: str) -> Transport:
        if name not in self._transports:
            self._transports[name] = self._reaching(self._hosts[name])
        return self._transports[name]

    def _reaching(self, host: Host) -> Transport:
        if host.address.is_local:
            return local(self._env.environ, host.name)
        from coordinator.hosts.ssh.transport import ssh  # asyncssh is slow to import

        return ssh(host, self._env.environ, self._handshakes)


def slots_of(host: Host, facts: Facts) -> int:
    """How many jobs of ours this host takes at once."""
    if host.jobs is not None:
        return host.jobs
    return min(max(facts.cores, 1), _MOST_AUTOMATIC_SLOTS) if host.kind is Kind.EMULATOR else 1
