"""The connections of one run to its hosts: opened when first needed, with one shared tunnel per host while in use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from coordinator.domain.causes import Cause, rule
from coordinator.domain.hosts.inventory import Host, Inventory, Kind
from coordinator.environment import Environment
from coordinator.errors import ArchloomError, LostError
from coordinator.farm.absences import Absences
from coordinator.farm.cleanup import Unwanted, sweep
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.transport import ConnectionHandler, Transport, Tunnel
from coordinator.hosts.ssh.login_limiter import LoginLimiter

if TYPE_CHECKING:
    from coordinator.domain.hosts.facts import Facts

# How long closing waits for the hosts; after Ctrl-C the whole command ends within 5 s.
_CLOSE_TIMEOUT_S, _HURRIED_CLOSE_TIMEOUT_S = 5.0, 0.3
# How long a tunnel that was opened ahead waits for its user.
_AHEAD_S = 10.0
# QEMU builds are mostly single-threaded; more builds at once only compete for the disk.
_MAX_AUTOMATIC_SLOTS = 4


@dataclass(slots=True)
class _SharedTunnel:
    """A tunnel and the number of its current users."""

    tunnel: Tunnel
    users: int = 0


class Farm:
    """The agents and tunnels, by host name. `broker` serves the tunnels; None where no image is transferred.

    `facts` holds the hosts that answered the probe; `farm.probe` adds them. `absences` are the hosts that do not answer
    now, and `changed` is set when there is one more or less. `ask_facts` probes a host that comes back without facts.
    """

    def __init__(self, inventory: Inventory, env: Environment, broker: ConnectionHandler | None = None) -> None:
        self._hosts = {host.name: host for host in inventory.hosts}
        self._env = env
        self._broker = broker
        self._limiter = LoginLimiter()
        self._locks = {name: asyncio.Lock() for name in self._hosts}
        self._transports: dict[str, Transport] = {}
        self._clients: dict[str, AgentClient] = {}
        self._tunnels: dict[str, _SharedTunnel] = {}
        self._ahead: dict[str, asyncio.Task[None]] = {}
        self._close_timeout = _CLOSE_TIMEOUT_S
        self._unwanted: Unwanted | None = None
        self._sweeps: set[asyncio.Task[None]] = set()
        self.facts: dict[str, Facts] = {}
        self.changed = asyncio.Event()
        self.absences = Absences(self._bring_back, self.changed.set)
        self.ask_facts: Callable[[str], Awaitable[object]] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self.hurry()
        await self.absences.close()
        for task in self._ahead.values():
            task.cancel()
        await asyncio.gather(*self._ahead.values(), return_exceptions=True)
        # For an unreachable host, close() would wait until the loss of the connection is detected.
        await self._end([client.close() for client in self._clients.values()])
        await self._end([transport.close() for transport in self._transports.values()])

    def hurry(self) -> None:
        """Wait no longer for hosts when the block ends: the user has interrupted the run."""
        self._close_timeout = _HURRIED_CLOSE_TIMEOUT_S

    async def _end(self, closing: Sequence[Coroutine[object, object, None]]) -> None:
        """Wait for what closes, as long as there is time. Raises the first unexpected exception."""
        tasks = [asyncio.ensure_future(close) for close in closing]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._close_timeout)
        for task in late:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def slots(self) -> Mapping[str, int]:
        """How many jobs each host that answered the probe may run for us at once."""
        return {name: slots_of(self._hosts[name], facts) for name, facts in self.facts.items()}

    def facts_of(self, name: str) -> Facts:
        """Return the facts of this host. Raises LostError where it did not answer this run's probe."""
        try:
            return self.facts[name]
        except KeyError:
            raise LostError(f"host '{name}' did not answer when this run was resumed", code=Cause.UNREACHABLE) from None

    def slots_of(self, name: str) -> int:
        """Return the number of slots of this host. Raises LostError as `facts_of` does."""
        return slots_of(self._hosts[name], self.facts_of(name))

    @property
    def hosts(self) -> Mapping[str, Host]:
        """Every host of the inventory, by name and in its order."""
        return self._hosts

    async def client(self, name: str) -> AgentClient:
        """Return the connected agent on this host; reconnect where the connection was lost. Raises LostError."""
        if name not in self._hosts:
            raise LostError(f"host '{name}' is no longer in the inventory", code=Cause.UNREACHABLE)
        last = self._clients.get(name)
        if last is not None and not last.lost:
            return last
        async with self._locks[name]:
            last = self._clients.get(name)
            if last is not None and not last.lost:
                return last
            client = self._clients[name] = await connect(await self._transport(name))
            if last is not None:
                # The host may not have noticed the loss yet: its sshd process of the old connection still holds a push.
                await client.hang_up(last.hello)
            return client

    async def reach(self, name: str, tell: Callable[[float], None]) -> AgentClient:
        """Return the agent as `client` does; where the host does not answer, wait for it until its patience is over.

        `tell` gets now and then for how many seconds it is waited for. Raises LostError.
        """
        if name not in self.absences:
            try:
                return await self.client(name)
            except LostError as error:
                if not rule(error.code).may_return or name not in self._hosts:
                    raise
                self.absences.begin(name, error, self._hosts[name].reconnect_for)
        return await self.absences.end(name, tell)

    def miss(self, name: str, error: LostError) -> None:
        """Begin to wait for the host, where its control channel has ended with this error."""
        client = self._clients.get(name)
        if client is None or client.lost:
            self.absences.begin(name, error, self._hosts[name].reconnect_for)

    async def _bring_back(self, name: str) -> AgentClient:
        """Connect to a host that was away, ask for its facts where they are unknown, and begin to sweep it."""
        client = await self.client(name)
        if name not in self.facts and self.ask_facts is not None:
            await self.ask_facts(name)
        if self._unwanted is not None and name in self.facts:
            self._begin_sweep(name, self._unwanted)
        return client

    @contextlib.asynccontextmanager
    async def tunnel(self, name: str) -> AsyncIterator[int]:
        """Yield a port on the host's loopback, forwarded to the broker until its last user leaves. Raises LostError."""
        shared = await self._shared_tunnel(name)
        try:
            yield shared.tunnel.port
        finally:
            shared.users -= 1
            if not shared.users:
                if self._tunnels.get(name) is shared:
                    del self._tunnels[name]
                await shared.tunnel.close()

    def open_ahead(self, name: str) -> None:
        """Open the tunnel of this host without waiting for it, and keep it open for 10 s: it is needed soon.

        A login takes a small board up to a second. Where the tunnel cannot be opened, its next user gets the error.
        Does nothing where the host's engine cannot reach a tunnel.
        """
        task = self._ahead.get(name)
        facts = self.facts.get(name)
        if facts is not None and facts.reaches_tunnel and (task is None or task.done()):
            self._ahead[name] = asyncio.create_task(self._keep_tunnel(name))

    async def _keep_tunnel(self, name: str) -> None:
        with contextlib.suppress(ArchloomError, OSError):
            async with self.tunnel(name):
                await asyncio.sleep(_AHEAD_S)

    async def _shared_tunnel(self, name: str) -> _SharedTunnel:
        async with self._locks[name]:
            shared = self._tunnels.get(name)
            if shared is None or shared.tunnel.lost:
                if self._broker is None:
                    raise ValueError("this farm has no broker")
                transport = await self._transport(name)
                shared = self._tunnels[name] = _SharedTunnel(await transport.listen(self._broker))
            shared.users += 1
            return shared

    @contextlib.asynccontextmanager
    async def sweeping(self, unwanted: Unwanted) -> AsyncIterator[None]:
        """Delete what no run needs any more from every host that answered the probe, concurrently with the block.

        A host that comes back during the block is swept then: it may still have what was lost with it. `unwanted`
        decides about this user's jobs, by their names on hosts.
        """
        self._unwanted = unwanted
        for name in self.facts:
            self._begin_sweep(name, unwanted)
        try:
            yield
            if self._sweeps:
                await asyncio.wait(self._sweeps, timeout=self._close_timeout)
        finally:
            self._unwanted = None
            for task in self._sweeps:
                task.cancel()
            for outcome in await asyncio.gather(*self._sweeps, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    def _begin_sweep(self, name: str, unwanted: Unwanted) -> None:
        swept = sweep(self._clients[name], self._hosts[name], self.host_time(name), unwanted)
        self._sweeps.add(asyncio.create_task(swept))

    def host_time(self, name: str) -> float:
        """Return the time of this host's clock, in epoch seconds. Raises LostError as `facts_of` does."""
        return self._env.clock() + (self.facts_of(name).clock_offset or 0.0)

    async def _transport(self, name: str) -> Transport:
        if name not in self._transports:
            self._transports[name] = await self._new_transport(self._hosts[name])
        return self._transports[name]

    async def _new_transport(self, host: Host) -> Transport:
        if host.address.is_local:
            from coordinator.hosts.agent.local import local

            return local(self._env.environ, host.name)
        # asyncssh takes 0.1 s to import, and half of it waits for gcc, ld and ldconfig, of which it asks where liboqs
        # is. Registries are asked meanwhile.
        ssh = await asyncio.to_thread(_import_ssh)
        return ssh(host, self._env.environ, self._limiter)


def _import_ssh() -> Callable[[Host, Mapping[str, str], LoginLimiter], Transport]:
    from coordinator.hosts.ssh.transport import ssh

    return ssh


def slots_of(host: Host, facts: Facts) -> int:
    """Return how many jobs this host may run for us at once.

    That is `jobs` of the inventory, else 1 on a board and the number of cores, at most 4, on an emulator.
    """
    if host.jobs is not None:
        return host.jobs
    return min(max(facts.cores, 1), _MAX_AUTOMATIC_SLOTS) if host.kind is Kind.EMULATOR else 1
