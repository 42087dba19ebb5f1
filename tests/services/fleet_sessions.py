"""One connection to a board of the fleet: who is let in, what is forwarded, and how a command is run."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from tests.services.fleet import Behaviour, Board, Fleet, Reply

_CHUNK = 65536
_GONE = (OSError, asyncssh.Error)


class Server(asyncssh.SSHServer):
    """What asyncssh asks about one connection. The board is the one whose address the client has reached."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._board: Board | None = None
        self._connection: asyncssh.SSHServerConnection | None = None
        self._is_handshaking = False
        self._open = 0

    @property
    def board(self) -> Board:
        assert self._board
        return self._board

    @property
    def behaviour(self) -> Behaviour:
        return self.board.behaviour

    def abort(self) -> None:
        if self._connection:
            self._connection.abort()

    def pause(self) -> None:
        if self._connection and self._connection._transport:
            self._connection._transport.pause_reading()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._board = self._fleet.by_place[conn.get_extra_info("sockname")[:2]]
        self._board.servers.add(self)
        self._is_handshaking = True
        self._fleet.handshake_begins(self._board)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.board.servers.discard(self)
        self._end_handshake()

    def _end_handshake(self) -> None:
        if self._is_handshaking:
            self._is_handshaking = False
            self._fleet.handshake_ends(self.board)

    # Who is let in.

    def begin_auth(self, username: str) -> bool:
        wanted = self.behaviour
        return bool(wanted.password or wanted.public_keys or wanted.interactive) or not self._is_known(username)

    def auth_completed(self) -> None:
        self.board.counts.handshakes += 1
        self._end_handshake()

    def password_auth_supported(self) -> bool:
        return bool(self.behaviour.password)

    def validate_password(self, username: str, password: str) -> bool:
        return self._is_known(username) and password == self.behaviour.password

    def public_key_auth_supported(self) -> bool:
        return bool(self.behaviour.public_keys or self.behaviour.folder)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        lines = list(self.behaviour.public_keys)
        if self.behaviour.folder:
            with suppress(FileNotFoundError):
                lines += (self.behaviour.folder / ".ssh" / "authorized_keys").read_text("utf-8").splitlines()
        shown = key.export_public_key().decode().split()[1]
        return self._is_known(username) and any(shown in line.split() for line in lines)

    def kbdint_auth_supported(self) -> bool:
        return bool(self.behaviour.interactive)

    def get_kbdint_challenge(self, _username: str, _lang: str, _submethods: str):
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses) -> bool:
        return self._is_known(username) and list(responses) == [self.behaviour.interactive]

    def _is_known(self, username: str) -> bool:
        return self.behaviour.user in {"", username}

    # What is forwarded.

    def connection_requested(self, _to: str, _to_port: int, _origin: str, _origin_port: int) -> bool:
        return self._forward()

    def server_requested(self, _host: str, _port: int) -> bool:
        return self._forward()

    def unix_connection_requested(self, _path: str) -> bool:
        return self._forward()

    def unix_server_requested(self, _path: str) -> bool:
        return self._forward()

    def _forward(self) -> bool:
        self.board.counts.forwards += self.behaviour.forwarding
        return self.behaviour.forwarding

    # What is run.

    def session_requested(self):
        counts = self.board.counts
        if self._open >= self.behaviour.max_sessions:
            counts.refused_sessions += 1
            return False  # as sshd says it: OPEN_CONNECT_FAILED
        self._open += 1
        counts.sessions += 1
        counts.most_sessions = max(counts.most_sessions, self._open)
        return asyncssh.SSHServerProcess(self._session, sftp_factory=None, sftp_version=3, allow_scp=False)

    async def _session(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        task = asyncio.current_task()
        assert task
        self._fleet.sessions.add(task)
        try:
            await self._serve(process)
        except _GONE:
            pass  # the client is no longer there
        finally:
            self._open -= 1
            self._fleet.sessions.discard(task)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        wanted, limit, command = self.behaviour, self.board.next_drop(), process.command or ""
        self.board.commands.append(command)
        if wanted.delay:
            await asyncio.sleep(wanted.delay)
        output = _Output(process, limit)
        await output.write(wanted.junk)
        reply = next((one for pattern, one in wanted.replies.items() if re.search(pattern, command)), None)
        if reply:
            await _say(process, output, reply)
        elif wanted.folder:
            await _run(process, output, command, wanted, wanted.folder)
        else:
            process.stderr.write(b"sh: 1: not found\n")
            process.exit(127)


class _Output:
    """A command's stdout, which takes the connection with it after so many bytes."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes], limit: int | None) -> None:
        self._process = process
        self._left = limit

    async def write(self, data: bytes) -> None:
        """Raises ConnectionResetError once the limit is reached."""
        whole = self._left is None or len(data) < self._left
        self._process.stdout.write(data if whole else data[: self._left])
        await self._process.stdout.drain()
        if not whole:
            self._process.channel.get_connection().abort()
            raise ConnectionResetError("dropped, as asked")
        if self._left is not None:
            self._left -= len(data)


async def _say(process: asyncssh.SSHServerProcess[bytes], output: _Output, reply: Reply) -> None:
    process.stderr.write(reply.stderr)
    await output.write(reply.stdout)
    if reply.answer:
        while line := await process.stdin.readline():
            await output.write(reply.answer(line))
    if reply.drop:
        process.channel.get_connection().abort()
    else:
        process.exit(reply.status)


async def _run(
    process: asyncssh.SSHServerProcess[bytes], output: _Output, command: str, wanted: Behaviour, folder: Path
) -> None:
    user = process.get_extra_info("username")
    named = {"HOME": str(folder), "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "PATH": os.environ["PATH"]}
    child = await asyncio.create_subprocess_exec(
        "sh", *(["-c", command] if command else []),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=folder, env={**named, **wanted.environ}, start_new_session=True,
    )  # fmt: skip
    feeding = asyncio.create_task(_feed(process, child, wanted))
    try:
        await asyncio.gather(_pass(child.stdout, output.write), _pass(child.stderr, _errors(process)))
        status = await child.wait()
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)
    except _GONE:
        # As sshd: the command is left alone with its pipes closed, and whether it ends is its own affair.
        _close_pipes(child)
        await child.wait()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
        _close_pipes(child)


def _errors(process: asyncssh.SSHServerProcess[bytes]):
    async def write(data: bytes) -> None:
        process.stderr.write(data)
        await process.stderr.drain()

    return write


async def _pass(source: asyncio.StreamReader | None, write) -> None:
    assert source
    while data := await source.read(_CHUNK):
        await write(data)


async def _feed(
    process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process, wanted: Behaviour
) -> None:
    """stdin into the child, signals to its whole group; the end of either side ends it."""
    assert child.stdin
    while True:
        try:
            data = await process.stdin.read(_CHUNK)
        except asyncssh.SignalReceived as sent:
            if wanted.signals:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.Signals[f"SIG{sent.signal}"])
            continue
        except (*_GONE, asyncssh.BreakReceived):
            data = b""
        if not data:
            child.stdin.close()
            return
        with suppress(ConnectionError):
            child.stdin.write(data)
            await child.stdin.drain()


def _close_pipes(child: asyncio.subprocess.Process) -> None:
    for number in (0, 1, 2):
        pipe = child._transport.get_pipe_transport(number)
        if pipe:
            pipe.close()
