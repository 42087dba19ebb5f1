"""Transport to a host over SSH: one connection for control, and a second one for bulk channels and tunnels.

On a slow link, a push that saturates a connection delays control frames on the same connection by most of a second; a
separate connection avoids this. The bulk connection stays open for 10 s after use: context, bases and a small image
follow each other within seconds, and a login costs a small board 1 s of CPU time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import asyncssh

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.domain.hosts.inventory import Host
from coordinator.errors import LostError
from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.agent.transport import ConnectionHandler
from coordinator.hosts.ssh.bootstrap import AgentFile, Bootstrap, StartedAgent
from coordinator.hosts.ssh.channel import SshChannel
from coordinator.hosts.ssh.connect import connect
from coordinator.hosts.ssh.login_limiter import LoginLimiter
from coordinator.hosts.ssh.tunnel import SshTunnel

# Faster than the default cipher on a CPU with AES instructions, slower on others.
_FAST_CIPHER = "aes128-gcm@openssh.com"
# Retries of a refused session: sshd frees a session only after it has seen the session's process end.
_MAX_REFUSALS = 20


def ssh(host: Host, environment: Mapping[str, str], limiter: LoginLimiter) -> SshTransport:
    """Return the SSH transport to the host, with the bundled agent."""
    return SshTransport(host, AgentFile(bundle(environment)), limiter)


@dataclass(slots=True)
class _Link:
    """A connection with its user count (channels and tunnels), its open sessions, and its delayed close when idle.

    `login_s` is how long it took to connect and to log in, in seconds.
    """

    connection: asyncssh.SSHClientConnection
    login_s: float = 0.0
    users: int = 0
    sessions: int = 0
    ending: asyncio.Task[None] | None = None


class SshTransport:
    """Opens each connection when it is first needed, and again after a loss."""

    def __init__(self, host: Host, agent: AgentFile, limiter: LoginLimiter) -> None:
        self._host = host
        self._bootstrap = Bootstrap(host.name, agent)
        self._limiter = limiter
        self._control: _Link | None = None
        self._bulk: _Link | None = None
        self._connecting = asyncio.Lock()
        self._cipher = ""
        self._channels: set[SshChannel] = set()
        self._tunnels: set[SshTunnel] = set()
        self._defect: Exception | None = None

    @property
    def host(self) -> str:
        return self._host.name

    async def open_control(self) -> SshChannel:
        # Abort both connections: what broke one may have broken the other, which has not detected it yet.
        for link in filter(None, (self._control, self._bulk)):
            link.connection.abort()
        began = time.monotonic()
        connection = await connect(self._host, self._limiter)
        self._control = _Link(connection, time.monotonic() - began)
        booted = await self._boot(self._control, ("serve",))
        self._cipher = _FAST_CIPHER if booted.has_aes else ""
        return booted.channel

    async def open_bulk(self, arguments: tuple[str, ...]) -> SshChannel:
        bulk = await self._take_bulk()
        try:
            return (await self._boot(bulk, arguments)).channel
        except BaseException:
            await self._leave_bulk(bulk)
            raise

    async def listen(self, handler: ConnectionHandler) -> SshTunnel:
        bulk = await self._take_bulk()

        async def closed() -> None:
            self._tunnels.discard(tunnel)
            self._defect = self._defect or tunnel.defect
            await self._leave_bulk(bulk)

        tunnel = SshTunnel(bulk.connection, handler, closed)
        try:
            await tunnel.open(self.host)
        except BaseException:
            await self._leave_bulk(bulk)
            raise
        self._tunnels.add(tunnel)
        return tunnel

    async def close(self) -> None:
        """Close tunnels and channels concurrently, then the connections; then raise the first `defect` of a tunnel."""
        tunnels, channels = list(self._tunnels), list(self._channels)
        await asyncio.gather(*(tunnel.close() for tunnel in tunnels), *(channel.abort() for channel in channels))
        for link in (self._control, self._bulk):
            if link is not None:
                await _stay(link)
                await _end(link)
        if self._defect is not None:
            raise self._defect

    async def _take_bulk(self) -> _Link:
        async with self._connecting:
            if self._bulk is not None:
                await _stay(self._bulk)
            if self._bulk is None or self._bulk.connection.is_closed():
                self._bulk = _Link(await connect(self._host, self._limiter, self._cipher))
            self._bulk.users += 1
            return self._bulk

    async def _leave_bulk(self, bulk: _Link) -> None:
        bulk.users -= 1
        if bulk.users:
            return
        if self._bulk is bulk and not bulk.connection.is_closed():
            bulk.ending = asyncio.create_task(self._end_later(bulk))
        else:
            await _end(bulk)

    async def _end_later(self, bulk: _Link) -> None:
        await asyncio.sleep(deadlines.BULK_IDLE)
        async with self._connecting:
            await _end(bulk)

    async def _boot(self, link: _Link, arguments: tuple[str, ...]) -> StartedAgent:
        """Start the agent in a new session; where the server refuses one (MaxSessions), retry until another has ended.

        Raises LostError `ssh` after 20 refusals in a row on a connection without sessions, `connection` where the
        connection is lost.
        """

        async def closed(channel: SshChannel) -> None:
            self._channels.discard(channel)
            link.sessions -= 1
            if link is not self._control:
                await self._leave_bulk(link)

        refusals = 0
        while True:
            try:
                async with asyncio.timeout(deadlines.AGENT_START):
                    booted = await self._bootstrap.start(link.connection, arguments, link.login_s)
            except TimeoutError as error:
                words = f"host '{self.host}': its agent has not started for {deadlines.AGENT_START:.0f} s"
                raise LostError(words, code=Cause.CONNECTION) from error
            except asyncssh.ChannelOpenError as error:
                refusals = 0 if link.sessions else refusals + 1
                if link.connection.is_closed() or refusals == _MAX_REFUSALS:
                    raise self._without_session(link, error) from error
                await asyncio.sleep(deadlines.SESSION_PAUSE)
            except (asyncssh.Error, OSError) as error:
                raise self._lost() from error
            else:
                link.sessions += 1
                booted.channel.when_closed(closed)
                self._channels.add(booted.channel)
                return booted

    def _without_session(self, link: _Link, error: asyncssh.ChannelOpenError) -> LostError:
        if link.connection.is_closed():
            return self._lost()
        hint = "set MaxSessions to 1 or more in its /etc/ssh/sshd_config"
        return LostError(f"host '{self.host}': its sshd opens no session: {error.reason}", hint=hint, code="ssh")

    def _lost(self) -> LostError:
        return LostError(f"host '{self.host}': the connection was lost while the agent started", code=Cause.CONNECTION)


async def _stay(link: _Link) -> None:
    """Cancel the delayed close of an idle connection."""
    if link.ending is not None:
        link.ending.cancel()
        await asyncio.wait({link.ending})
        link.ending = None


async def _end(link: _Link) -> None:
    """Close the connection in order, so that the host ends its sessions at once; abort after 2 s without an answer."""
    link.connection.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(deadlines.CLOSE):
            await link.connection.wait_closed()
            return
    link.connection.abort()
    await link.connection.wait_closed()
