"""A tunnel by SSH remote port forwarding: sshd listens on the host's loopback, the coordinator serves connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.agent.transport import ConnectionHandler
from coordinator.hosts.ssh.channel import SshReader, SshWriter
from coordinator.hosts.ssh.connect import TROUBLE

if TYPE_CHECKING:
    import asyncssh

_LOOPBACK = "127.0.0.1"


class SshTunnel:
    """A tunnel to the coordinator. `closed` is awaited once, after the tunnel is closed.

    `defect` is the first exception of the handler that a peer cannot cause.
    """

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        handler: ConnectionHandler,
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._handler = handler
        self._closed = closed
        self._listener: asyncssh.SSHListener | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.defect: Exception | None = None

    @property
    def port(self) -> int:
        return self._listener.get_port() if self._listener is not None else 0

    @property
    def lost(self) -> bool:
        return self._connection.is_closed()

    async def open(self, host: str) -> None:
        """Listen on a port that the host chooses.

        Raises LostError `forwarding` where its sshd forbids port forwarding, `connection` where the connection is lost.
        """
        try:
            self._listener = await self._connection.start_server(lambda _host, _port: self._serve, _LOOPBACK, 0)
        except TROUBLE as error:
            if self.lost:
                message = f"host '{host}': the connection was lost while the tunnel was opened"
                raise LostError(message, code=Cause.CONNECTION) from error
            raise LostError(
                f"host '{host}': its sshd forwards no ports",
                hint="on the host: AllowTcpForwarding yes (or remote) in /etc/ssh/sshd_config, then restart ssh",
                code=Cause.FORWARDING,
            ) from error

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        closed, self._closed = self._closed, _nothing
        await closed()

    async def _serve(self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        # No exception may escape: asyncssh closes the whole connection when a handler raises.
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            with suppress(*TROUBLE):
                # These have every method of the streams that a handler uses, and raise OSError on a lost connection.
                streams = SshReader(reader), SshWriter(writer)
                await self._handler(cast("asyncio.StreamReader", streams[0]), cast("asyncio.StreamWriter", streams[1]))
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - this task is not awaited; the transport's `close` raises it
            self.defect = self.defect or error
        finally:
            writer.close()


async def _nothing() -> None:
    pass
