"""A process on a host as a channel: asyncssh's streams, with asyncssh.Error turned into OSError."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncssh

from coordinator import deadlines
from coordinator.hosts.agent.stderr_tail import StderrTail
from coordinator.hosts.agent.transport import Ending

_READ_BYTES = 65536
# More than asyncssh buffers: its window, twice.
_ALL = 1 << 23


class SshReader:
    """The incoming bytes of an SSH channel: stdout or stderr of a process, or a connection to a tunnel's port.

    A host that sends faster than it is read has to wait. asyncssh lets it send a whole window of 2 MiB after each read
    of any size (`SSHChannel._deliver_data` takes what is buffered for read). So each read takes all that is there.
    """

    def __init__(self, inner: asyncssh.SSHReader[bytes]) -> None:
        self._inner = inner
        self._unread = b""
        self._at = 0

    async def read(self, n: int, /) -> bytes:
        if self._at == len(self._unread):
            try:
                self._unread, self._at = await self._inner.read(_ALL), 0
            except asyncssh.Error as error:
                raise ConnectionResetError(error.reason) from error
        data = self._unread[self._at : self._at + n]
        self._at += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Put back these bytes, which the next `read` returns."""
        self._unread, self._at = data + self._unread[self._at :], 0

    async def has_more(self) -> bool:
        """Wait for bytes, and return whether there are any before the end. Raises OSError as `read` does."""
        self.unread(await self.read(_READ_BYTES))
        return self._at < len(self._unread)


class SshWriter:
    """The outgoing bytes of an SSH channel."""

    def __init__(self, inner: asyncssh.SSHWriter[bytes]) -> None:
        self._inner = inner

    def write(self, data: bytes, /) -> None:
        self._inner.write(data)

    async def drain(self) -> None:
        try:
            await self._inner.drain()
        except asyncssh.Error as error:
            raise ConnectionResetError(error.reason) from error

    def close(self) -> None:
        self._inner.close()

    def write_eof(self) -> None:
        # A lost connection is reported to the reader of the answer.
        with suppress(OSError):
            self._inner.write_eof()


class SshChannel:
    """An SSH session with its process, as a channel."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self.reader = SshReader(process.stdout)
        self.writer = SshWriter(process.stdin)
        self._process = process
        self._closed: Callable[[SshChannel], Awaitable[None]] = _nothing
        self._stderr = StderrTail()
        self._reading_stderr = asyncio.create_task(_read_all(self._stderr, SshReader(process.stderr)))
        self._closing = asyncio.Lock()
        self._timeout = deadlines.AGENT_END
        self._ending: Ending | None = None

    def when_closed(self, closed: Callable[[SshChannel], Awaitable[None]]) -> None:
        """Set the callback to await once, when the channel is closed."""
        self._closed = closed

    async def close(self) -> Ending:
        async with self._closing:
            if self._ending is None:
                try:
                    self._ending = await self._end()
                finally:
                    closed, self._closed = self._closed, _nothing
                    await closed(self)
            return self._ending

    @property
    def stderr_so_far(self) -> str:
        """The last lines that the process has written to stderr."""
        return self._stderr.text

    async def kill(self) -> None:
        """Ask sshd to kill the process, wait a moment for its end, and abort. sshd refuses it for processes of root."""
        with suppress(OSError):
            self._process.kill()
        await asyncio.wait({self._reading_stderr}, timeout=deadlines.ABORT)
        await self.abort()

    async def abort(self) -> None:
        # Not a signal: sshd ignores signal requests for processes of root. The agent ends when its pipes are closed.
        self._process.close()
        self._timeout = deadlines.ABORT
        with suppress(TimeoutError):  # another task may be at it
            async with asyncio.timeout(deadlines.CLOSE):
                await self.close()

    async def _end(self) -> Ending:
        # Drain stdout: a process that blocks on a full pipe would not end.
        draining = asyncio.create_task(_discard(self.reader))
        self.writer.write_eof()
        try:
            async with asyncio.timeout(self._timeout):
                await self._process.wait_closed()
        except TimeoutError:
            pass
        finally:
            self._process.close()
            draining.cancel()
            await asyncio.wait({draining, self._reading_stderr}, timeout=deadlines.ABORT)
            self._reading_stderr.cancel()
        return Ending(self._process.exit_status, self._stderr.text)


async def _read_all(tail: StderrTail, stderr: SshReader) -> None:
    with suppress(OSError):
        await tail.read(stderr)


async def _discard(reader: SshReader) -> None:
    with suppress(OSError, RuntimeError):  # RuntimeError: another task is reading already, until the end
        while await reader.read(_READ_BYTES):
            pass


async def run(connection: asyncssh.SSHClientConnection, command: str) -> SshChannel:
    """Run the command in the user's login shell. Raises asyncssh.Error where the connection or the server refuses."""
    # Never a terminal, whatever RequestTTY says: it would change the agent's bytes, and send them back.
    return SshChannel(await connection.create_process(command, encoding=None, request_pty=False))


async def _nothing(channel: SshChannel) -> None:
    pass
