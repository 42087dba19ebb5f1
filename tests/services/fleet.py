"""SSH servers in this process, each a board that does what it is told: by the hundred, or misbehaving by script.

What asyncssh's server does is not what sshd does in every corner: that a root login ignores signals, that MaxStartups
drops clients before the banner, and the like, is here because it was asked for, not because it happens by itself.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import asyncssh

from tests.services.fleet_sessions import Server

_BACKLOG = 100


class Greeting(Enum):
    """How far a board goes with a client that connects. `MUTE` accepts and says nothing; `BANNER` stops after that."""

    FULL = "full"
    MUTE = "mute"
    BANNER = "banner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a command answers instead of being run. `drop`: the transport dies after the output, without a status.

    `answer`: after the output, makes an answer to each line of stdin, with its line break, until that ends.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    status: int = 0
    drop: bool = False
    answer: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a board does. As it stands: lets everybody in, forwards everything, and knows no command.

    folder: commands run in it, by this machine's `sh -c`, with it as HOME; its .ssh/authorized_keys counts. None: a
        command that has no reply ends with 127, as one that is not there.
    environ: for the commands, beside HOME, PATH, USER, LOGNAME and SHELL.
    replies: pattern → reply; the first pattern found in the command wins, and nothing is run.
    junk: what a login shell prints on stdout before each command.
    delay: seconds before a command begins; the board is alive but slow.
    drop_after: the k-th session since this behaviour was set loses its transport after so many bytes of stdout, 0 at
        once; None: it does not. Further sessions do not.
    signals: False: the client's signals are ignored, as by sshd for a root login.
    refuse_first: so many connections are closed before the banner, as by MaxStartups.
    max_sessions: sessions open at once on one connection, as MaxSessions; further ones are refused.
    user, password, public_keys, interactive: the name that is let in (any, where empty) and by which methods; none of
        them: without. `public_keys` are lines of authorized_keys, `interactive` is the answer that is expected.
    host_key: None: the one all boards of the fleet share.
    """

    folder: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    replies: Mapping[str, Reply] = field(default_factory=dict)
    junk: bytes = b""
    delay: float = 0.0
    drop_after: tuple[int | None, ...] = ()
    signals: bool = True
    greeting: Greeting = Greeting.FULL
    refuse_first: int = 0
    max_sessions: int = 10
    forwarding: bool = True
    user: str = ""
    password: str = ""
    public_keys: tuple[str, ...] = ()
    interactive: str = ""
    host_key: asyncssh.SSHKey | None = None


@dataclass(slots=True)
class Counts:
    """Since the board is there: TCP connections, those refused, handshakes that ended logged in, sessions, and bytes.

    `received` and `sent` are bytes on the wire, of connections that got a banner.
    """

    connections: int = 0
    refused: int = 0
    handshakes: int = 0
    most_handshaking: int = 0
    sessions: int = 0
    most_sessions: int = 0
    refused_sessions: int = 0
    forwards: int = 0
    received: int = 0
    sent: int = 0


@dataclass(slots=True, eq=False)
class Board:
    """One of the fleet. Change it by `set`; `commands` are those it was asked to run."""

    fleet: Fleet
    host: str
    port: int
    behaviour: Behaviour
    counts: Counts = field(default_factory=Counts)
    commands: list[str] = field(default_factory=list)
    frozen: bool = False
    servers: set[Server] = field(default_factory=set)
    handshaking: int = 0
    _dropped: int = 0
    _refused: int = 0
    _listener: socket.socket | None = None
    _held: list[socket.socket] = field(default_factory=list)

    @property
    def host_key(self) -> asyncssh.SSHKey:
        return self.behaviour.host_key or self.fleet.host_key

    @property
    def known_hosts(self) -> str:
        """Its line of a known_hosts file."""
        return f"[{self.host}]:{self.port} {self.host_key.export_public_key().decode().strip()}"

    @property
    def target(self) -> str:
        return f"ssh://{self.host}:{self.port}"

    def set(self, behaviour: Behaviour) -> None:
        """Behaves like this from now on, to connections that are there too; what is counted down starts again."""
        self.behaviour = behaviour
        self._dropped = self._refused = 0

    def next_drop(self) -> int | None:
        """After how many bytes the session that begins now loses its transport."""
        limits = self.behaviour.drop_after
        self._dropped += 1
        return limits[self._dropped - 1] if self._dropped <= len(limits) else None

    def drop(self) -> None:
        """Every connection dies at once, without a word. What the commands started lives on, as on a real board."""
        self.fleet.soon(self._drop)

    def freeze(self) -> None:
        """The cable is pulled: connections stay, and not a byte comes or goes any more. New ones get no banner."""
        self.frozen = True
        self.fleet.soon(self._freeze)

    def off(self) -> None:
        """Switched off: connections die and new ones are refused, until `on`."""
        self.fleet.wait(self._off)

    def on(self) -> None:
        """Switched on again, on the same port, with the cable in."""
        self.frozen = False
        self.fleet.wait(self._listen)

    def _listen(self) -> None:
        if self._listener:
            return
        listener = socket.create_server((self.host, self.port), backlog=_BACKLOG)
        listener.settimeout(0)
        self.port = listener.getsockname()[1]
        self.fleet.by_place[self.host, self.port] = self
        self._listener = listener
        self.fleet.loop.add_reader(listener, self._accept, listener)

    def _off(self) -> None:
        if self._listener:
            self.fleet.loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self._drop()

    def _drop(self) -> None:
        for server in list(self.servers):
            server.abort()
        for held in self._held:
            held.close()
        self._held.clear()

    def _freeze(self) -> None:
        for server in list(self.servers):
            server.pause()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            accepted, _ = listener.accept()
            self._greet(accepted)

    def _greet(self, accepted: socket.socket) -> None:
        self.counts.connections += 1
        if self._refused < self.behaviour.refuse_first:
            self._refused += 1
            self.counts.refused += 1
            accepted.close()
        elif self.frozen or self.behaviour.greeting is not Greeting.FULL:
            if not self.frozen and self.behaviour.greeting is Greeting.BANNER:
                accepted.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            self._held.append(accepted)
        else:
            self.fleet.serve(_Counted(accepted, self))


class _Counted(socket.socket):
    """The socket of a board's connection, whose bytes are counted; what is sent on a frozen board is lost."""

    def __init__(self, accepted: socket.socket, board: Board) -> None:
        super().__init__(fileno=accepted.detach())
        self.settimeout(0)
        self._board = board

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        self._board.counts.received += len(data)
        return data

    def send(self, data, flags: int = 0, /) -> int:
        sent = len(data) if self._board.frozen else super().send(data, flags)
        self._board.counts.sent += sent
        return sent

    def sendmsg(self, buffers, *more) -> int:  # asyncio writes so since Python 3.12
        buffers = list(buffers)
        sent = sum(map(len, buffers)) if self._board.frozen else super().sendmsg(buffers, *more)
        self._board.counts.sent += sent
        return sent


@dataclass(slots=True, eq=False)
class Fleet:
    """Boards of one event loop. `most_handshaking` is the most clients that were logging in at once, to all of them."""

    loop: asyncio.AbstractEventLoop
    host_key: asyncssh.SSHKey
    boards: list[Board] = field(default_factory=list)
    by_place: dict[tuple[str, int], Board] = field(default_factory=dict)
    handshaking: int = 0
    most_handshaking: int = 0
    sessions: set[asyncio.Task[None]] = field(default_factory=set)
    _starting: set[asyncio.Task[None]] = field(default_factory=set)
    # The tables of algorithms in them are most of what a board would weigh, so boards with one key share them.
    _options: dict[bytes, asyncssh.SSHServerConnectionOptions] = field(default_factory=dict)

    def add(self, behaviour: Behaviour | None = None, host: str = "127.0.0.1", port: int = 0) -> Board:
        """One board more, on this loopback address and port; 0 is a free one."""
        board = Board(self, host, port, behaviour or Behaviour())
        self.wait(board.on)
        self.boards.append(board)
        return board

    def known_hosts(self) -> str:
        """A known_hosts file with all boards."""
        return "".join(f"{board.known_hosts}\n" for board in self.boards)

    def soon(self, action) -> None:
        self.loop.call_soon_threadsafe(action)

    def wait(self, action) -> None:
        """Does this in the loop's own thread, from whichever it is asked."""
        if _running_loop() is self.loop:
            action()
            return
        done: Future[None] = Future()
        self.soon(lambda: done.set_result(action()))
        done.result(timeout=10)

    def serve(self, accepted: _Counted) -> None:
        board = accepted._board
        options = self._options_for(board.host_key)
        starting = self.loop.connect_accepted_socket(lambda: asyncssh.SSHServerConnection(self.loop, options), accepted)
        task = self.loop.create_task(_started(starting))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def handshake_begins(self, board: Board) -> None:
        board.handshaking += 1
        self.handshaking += 1
        board.counts.most_handshaking = max(board.counts.most_handshaking, board.handshaking)
        self.most_handshaking = max(self.most_handshaking, self.handshaking)

    def handshake_ends(self, board: Board) -> None:
        board.handshaking -= 1
        self.handshaking -= 1

    async def close(self) -> None:
        """Ends all connections, and every command that still runs in its session."""
        for board in self.boards:
            board._off()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for task in self.sessions:
            task.cancel()
        await asyncio.gather(*self.sessions, return_exceptions=True)

    def _options_for(self, key: asyncssh.SSHKey) -> asyncssh.SSHServerConnectionOptions:
        if key.public_data not in self._options:
            self._options[key.public_data] = asyncssh.SSHServerConnectionOptions(
                server_factory=lambda: Server(self), server_host_keys=[key], encoding=None, login_timeout=60
            )
        return self._options[key.public_data]


async def _started(starting) -> None:
    # A client that is gone already is nobody's problem but its own.
    with suppress(OSError, asyncssh.Error):
        await starting


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


@asynccontextmanager
async def fleet(*behaviours: Behaviour) -> AsyncIterator[Fleet]:
    """Boards in the running loop, one for each behaviour; more by `add`. They end with the block."""
    made = Fleet(asyncio.get_running_loop(), asyncssh.generate_private_key("ssh-ed25519"))
    try:
        for behaviour in behaviours:
            made.add(behaviour)
        yield made
    finally:
        await made.close()


@contextmanager
def fleet_thread(*behaviours: Behaviour) -> Iterator[Fleet]:
    """The same in a thread of its own, for clients that block."""
    begun: Future[tuple[Fleet, asyncio.Event]] = Future()

    async def serve() -> None:
        async with fleet(*behaviours) as made:
            end = asyncio.Event()
            begun.set_result((made, end))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="fleet")
    thread.start()
    made, end = begun.result(timeout=10)
    try:
        yield made
    finally:
        made.soon(end.set)
        thread.join(timeout=10)
        assert not thread.is_alive()
