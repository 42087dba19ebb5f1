"""A port on a board's loopback that sshd listens on: what connects there is served here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from coordinator.errors import LostError
from coordinator.hosts.agent.transport import ConnectionHandler
from coordinator.hosts.ssh.channel import SshReader, SshWriter
from coordinator.hosts.ssh.connect import TROUBLE

if TYPE_CHECKING:
    import asyncssh

_LOOPBACK = "127.0.0.1"


class SshTunnel:
    """`closed` is awaited once, when nobody listens any more. `defect` is what the handler raised that is no peer's."""

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
        """Listen on a port that the board chooses. Raises LostError `forwarding` where its sshd does not let us."""
        try:
            self._listener = await self._connection.start_server(lambda _host, _port: self._serve, _LOOPBACK, 0)
        except TROUBLE as error:
            if self.lost:
                message = f"host '{host}': the connection was lost while the tunnel was made"
                raise LostError(message, code="connection") from error
            raise LostError(
                f"host '{host}': its sshd forwards no ports",
                hint="on the board: AllowTcpForwarding yes (or remote) in /etc/ssh/sshd_config, then restart ssh",
                code="forwarding",
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
        # asyncssh closes the whole connection over what its handlers raise, so nothing may leave here.
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            with suppress(*TROUBLE):
                # All that a handler asks of streams these have, and they say by OSError that the connection is lost.
                ours = SshReader(reader), SshWriter(writer)
                await self._handler(cast("asyncio.StreamReader", ours[0]), cast("asyncio.StreamWriter", ours[1]))
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - nobody awaits this task; who closes the transport is told
            self.defect = self.defect or error
        finally:
            writer.close()


async def _nothing() -> None:
    pass
