"""The coordinator's machine as a host: the agent is a child process over pipes, the tunnel a loopback port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress

from coordinator import deadlines
from coordinator.errors import LostError
from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.agent.stderr_tail import StderrTail
from coordinator.hosts.agent.transport import ConnectionHandler, Ending

_READ_BYTES = 65536


def local(environment: Mapping[str, str], host: str) -> LocalTransport:
    """Return the transport to the coordinator's machine, with the bundled agent run by this process's Python.

    `host` is the host's name in the inventory.
    """
    return LocalTransport((sys.executable, "-I", "-S", str(bundle(environment))), host)


class LocalTransport:
    """Transport to the coordinator's machine. `command` starts the agent: the interpreter and the bundle."""

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
        """Close all tunnels and channels concurrently, then raise the first `defect` of a tunnel."""
        tunnels, self._tunnels = self._tunnels, []
        await asyncio.gather(*(tunnel.close() for tunnel in tunnels), *(channel.close() for channel in self._channels))
        for tunnel in tunnels:
            if tunnel.defect is not None:
                raise tunnel.defect

    async def _channel(self, arguments: tuple[str, ...]) -> LocalChannel:
        try:
            # New session: Ctrl-C in the terminal reaches only the coordinator, which then cancels jobs in order.
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
    """A child process as a channel. `close` reaps the process, closes its pipes and calls `closed`."""

    def __init__(self, process: Process, closed: Callable[[LocalChannel], None]) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a channel needs all three pipes")
        self.reader = process.stdout
        self.writer = process.stdin
        self._process = process
        self._closed = closed
        self._stderr = StderrTail()
        self._reading = asyncio.create_task(self._stderr.read(process.stderr))
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
        # Drain stdout: a process that blocks on a full pipe would not end.
        draining = asyncio.create_task(_discard(self.reader))
        try:
            self.writer.close()
            async with asyncio.timeout(deadlines.AGENT_END):
                await self._process.wait()
        except TimeoutError:
            self._kill()
        except BaseException:
            self._kill()
            raise
        finally:
            status = await self._process.wait()
            await draining
            await self._reading
            with suppress(OSError):
                await self.writer.wait_closed()
        return Ending(status, self._stderr.text)

    def _kill(self) -> None:
        # Kill the process group, to include the agent's children. Detached jobs have sessions of their own.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class LocalTunnel:
    """A listening socket on 127.0.0.1; never lost.

    `defect` is the first exception of its handler other than OSError, which a peer can cause.
    """

    def __init__(self, handler: ConnectionHandler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.lost = False
        self.defect: Exception | None = None

    async def open(self) -> None:
        """Listen on a port that the kernel chooses, and set `port`."""
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
        # Not a coroutine: `start_server` logs the cancellation of its own tasks as an error (CPython 3.11).
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A peer that disconnects ends only its own connection.
            with suppress(OSError):
                await self._handler(reader, writer)
        except asyncio.CancelledError:
            # A flushing close would hang on a peer that does not read.
            writer.transport.abort()
            raise
        except Exception as error:  # noqa: BLE001 - this task is not awaited; the transport's `close` raises it
            self.defect = self.defect or error
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _discard(reader: asyncio.StreamReader) -> None:
    with suppress(RuntimeError):  # another task is reading already, until the end
        while await reader.read(_READ_BYTES):
            pass
