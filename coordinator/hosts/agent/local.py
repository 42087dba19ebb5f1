"""This machine as a host: the agent as a child process over pipes, the tunnel as a loopback port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress

from coordinator.errors import LostError
from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.agent.stderr_tail import last_words
from coordinator.hosts.agent.transport import ConnectionHandler, Ending

# An agent that is told to stop finishes what it may not leave half done: see `agents/server/control.py`.
_PATIENCE = 30.0
_READ = 65536


def local(environment: Mapping[str, str], host: str) -> LocalTransport:
    """This machine under the host's name, with the bundled agent and the Python that runs this."""
    return LocalTransport((sys.executable, str(bundle(environment))), host)


class LocalTransport:
    """`command` runs the agent: the interpreter and the bundle."""

    def __init__(self, command: tuple[str, ...], host: str = "local") -> None:
        self._command = command
        self._host = host
        self._channels: set[LocalChannel] = set()
        self._tunnels: list[LocalTunnel] = []

    @property
    def host(self) -> str:
        return self._host

    async def open_control(self) -> LocalChannel:
        return await self._channel(("serve",))

    async def open_bulk(self, arguments: tuple[str, ...]) -> LocalChannel:
        return await self._channel(arguments)

    async def listen(self, handler: ConnectionHandler) -> LocalTunnel:
        tunnel = LocalTunnel(handler)
        await tunnel.open()
        self._tunnels.append(tunnel)
        return tunnel

    async def close(self) -> None:
        """Close everything, side by side. Raises what a tunnel's handler raised that it may not."""
        tunnels, self._tunnels = self._tunnels, []
        await asyncio.gather(*(tunnel.close() for tunnel in tunnels), *(channel.close() for channel in self._channels))
        for tunnel in tunnels:
            if tunnel.defect is not None:
                raise tunnel.defect

    async def _channel(self, arguments: tuple[str, ...]) -> LocalChannel:
        try:
            # A session of its own: Ctrl-C in the terminal is the coordinator's, which then cancels jobs in order.
            process = await asyncio.create_subprocess_exec(
                *self._command, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
        except OSError as error:
            message = f"host '{self._host}': cannot run {self._command[0]}: {error.strerror}"
            raise LostError(message, code="agent") from error
        channel = LocalChannel(process, self._channels.discard)
        self._channels.add(channel)
        return channel


class LocalChannel:
    """A child process; `close` leaves no zombie and no pipe, and tells `closed`."""

    def __init__(self, process: Process, closed: Callable[[LocalChannel], None]) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a channel needs all three pipes")
        self.reader = process.stdout
        self.writer = process.stdin
        self._process = process
        self._closed = closed
        self._words = asyncio.create_task(last_words(process.stderr))
        self._closing = asyncio.Lock()
        self._ending: Ending | None = None

    async def close(self) -> Ending:
        async with self._closing:
            if self._ending is None:
                self._ending = await self._end()
                self._closed(self)
            return self._ending

    async def abort(self) -> None:
        self._kill()
        await self.close()

    async def _end(self) -> Ending:
        # What it still says is nobody's, but unread it would keep the process from ending.
        rest = asyncio.create_task(_discard(self.reader))
        try:
            self.writer.close()
            async with asyncio.timeout(_PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self._kill()
        except BaseException:
            self._kill()
            raise
        finally:
            status = await self._process.wait()
            await rest
            words = await self._words
            with suppress(OSError):
                await self.writer.wait_closed()
        return Ending(status, words)

    def _kill(self) -> None:
        # Its session: also what it runs. Detached jobs have sessions of their own.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class LocalTunnel:
    """A listening socket on 127.0.0.1, never lost.

    `defect` is the first thing its handler raised that is no peer's doing.
    """

    def __init__(self, handler: ConnectionHandler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.lost = False
        self.defect: Exception | None = None

    async def open(self) -> None:
        """Listen; `port` is the one the system chose."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: `start_server` reports its own tasks' cancellation as an error (CPython 3.11).
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A peer that goes away ends its own connection and nothing else.
            with suppress(OSError):
                await self._handler(reader, writer)
        except asyncio.CancelledError:
            # A peer that reads no more would hold an orderly close for ever.
            writer.transport.abort()
            raise
        except Exception as error:  # noqa: BLE001 - nobody awaits this task; who closes the transport is told
            self.defect = self.defect or error
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _discard(reader: asyncio.StreamReader) -> None:
    with suppress(RuntimeError):  # somebody else is reading already, until the end
        while await reader.read(_READ):
            pass
