"""A scripted HTTP proxy in front of a real registry: it passes every request on, until it is told to misbehave."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_HEAD = b"\r\n\r\n"
_PIECE = 65536
_MAX_HEAD = 1 << 18
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What the registry does instead of answering: one of these.

    `status`: an error; `reset`: of the connection; `silent`: nothing comes. `stalls`: the middle of a body is the last
    that comes. `refuses`: nothing listens. `mute`: it does as it was asked, and then resets the connection, and every
    other from then on where it is `then_gone`. `slow`: so many bytes a second, and each answer a second late. `writes`:
    only for what would change something; `path`: only where this pattern is found in the path.
    """

    status: int = 0
    code: str = "UNKNOWN"
    message: str = "chaos"
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    writes: bool = False
    path: str = ""
    reset: bool = False
    silent: bool = False
    stalls: bool = False
    refuses: bool = False
    mute: bool = False
    slow: int = 0
    then_gone: bool = False

    def concerns(self, head: bytes) -> bool:
        method, path = head.decode("latin-1").split(" ", 2)[:2]
        # A registry that has lost a repository still says that it is one.
        there = path.rstrip("/") == "/v2" and self.status == 404
        return not there and (method in _WRITES or not self.writes) and bool(re.search(self.path, path))

    def answer(self) -> bytes:
        errors = {"errors": [{"code": self.code, "message": self.message, "detail": self.detail}]}
        body = json.dumps(errors).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"{name}: {text}" for name, text in [*headers.items(), *self.headers]]
        return "\r\n".join([f"HTTP/1.1 {self.status} Chaos", *lines, "", ""]).encode() + body


@dataclass(slots=True, kw_only=True, eq=False)
class RegistryProxy:
    """`address` is what clients use. `bitten` counts the requests that met a trouble, `served` those that did not.

    The methods may be called from any thread.
    """

    upstream: str
    address: str = ""
    trouble: Trouble | None = None
    bitten: int = 0
    served: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _calm: asyncio.Event = field(default_factory=asyncio.Event)

    def misbehave(self, trouble: Trouble) -> None:
        """From the next request on. Connections that are open meet it too."""
        self._run(self._begin(trouble))

    def behave(self) -> None:
        """As the registry behind it again. Who was kept waiting is cut off."""
        self._run(self._end())

    def _run(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _begin(self, trouble: Trouble) -> None:
        self._calm.clear()
        self.trouble, self.bitten = trouble, 0
        if trouble.refuses or trouble.reset:
            self._abort()
        if trouble.refuses:
            await self._close()

    async def _end(self) -> None:
        self.trouble = None
        self._calm.set()
        if self._server is None:
            await self.open()

    async def open(self) -> None:
        host, _, port = self.address.partition(":")
        self._server = await asyncio.start_server(
            self._serve, host or "127.0.0.1", int(port or 0), limit=_MAX_HEAD, reuse_address=True
        )
        self.address = ":".join(map(str, self._server.sockets[0].getsockname()[:2]))

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _abort(self) -> None:
        for writer in self._writers:
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while head := await _head(reader):
                trouble = self.trouble
                if trouble and trouble.concerns(head):
                    self.bitten += 1
                    if not await self._misbehave(trouble, reader, writer):
                        return
                else:
                    self.served += 1
                behind = behind or await asyncio.open_connection(*self.upstream.split(":"), limit=_MAX_HEAD)
                if not await self._forward(head, (reader, writer), behind):
                    return
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # either side broke off
        finally:
            self._writers.discard(writer)
            for one in (writer, behind[1] if behind else writer):
                one.close()

    async def _misbehave(self, trouble: Trouble, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the request is passed on all the same."""
        if trouble.slow or trouble.stalls or trouble.mute:
            await asyncio.sleep(1 if trouble.slow else 0)
            return True
        if trouble.reset:
            self._abort()
            return False
        if trouble.silent:
            await self._calm.wait()
            return False
        # What the client still sends has to be read, or the reset behind it takes the answer away.
        writer.write(trouble.answer())
        await writer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while await reader.read(_PIECE):
                    pass
        return False

    async def _forward(
        self,
        head: bytes,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        behind: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """One request and its answer. Whether the connection goes on."""
        behind[1].write(head)
        await self._body(head, client[0], behind[1], has_body=True)
        answer = await _head(behind[0])
        if not answer:
            return False
        if self.trouble and self.trouble.mute and self.trouble.concerns(head):
            if self.trouble.then_gone:
                self.trouble = Trouble(reset=True)
            _reset(client[1])
            return False
        client[1].write(answer)
        empty = head.startswith(b"HEAD ") or answer.split(b" ", 2)[1] in {b"204", b"304"}
        await self._body(answer, behind[0], client[1], has_body=not empty)
        return b"connection: close" not in answer.lower()

    async def _body(
        self, head: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, has_body: bool
    ) -> None:
        length = _length(head) if has_body else 0
        if length is None:
            while True:
                line = await source.readline()
                size = int(line.split(b";")[0], 16)
                target.write(line)
                await self._copy(size + 2, source, target)
                if not size:
                    break
        else:
            await self._copy(length, source, target)
        await target.drain()

    async def _copy(self, length: int, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        left = length
        while left:
            trouble = self.trouble
            if trouble and trouble.stalls and left <= length // 2:
                self.bitten += 1
                await self._calm.wait()
                raise ConnectionResetError
            piece = await source.read(min(left, _step(trouble, length)))
            if not piece:
                raise ConnectionResetError
            if trouble and trouble.slow:
                await asyncio.sleep(len(piece) / trouble.slow)
            target.write(piece)
            await target.drain()
            left -= len(piece)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        # Not an end: what was sent may be lost as well.
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _step(trouble: Trouble | None, length: int) -> int:
    """Bytes to pass on at once: few enough for what is to happen in their middle."""
    if trouble is None:
        return _PIECE
    return max(1, length // 2) if trouble.stalls else 4096


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Up to its empty line; nothing where the connection has ended."""
    try:
        return await reader.readuntil(_HEAD)
    except asyncio.IncompleteReadError:
        return b""


def _length(head: bytes) -> int | None:
    """Bytes of the body; None: in chunks."""
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return None
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


@contextmanager
def registry_proxy(upstream: str) -> Iterator[RegistryProxy]:
    """One in front of the registry at this address, on a free port of loopback."""
    proxy = RegistryProxy(upstream=upstream)
    thread = threading.Thread(target=proxy._loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(proxy.open(), proxy._loop).result(_PATIENCE)
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_stop(proxy), proxy._loop).result(_PATIENCE)
        proxy._loop.call_soon_threadsafe(proxy._loop.stop)
        thread.join(_PATIENCE)
        proxy._loop.close()


async def _stop(proxy: RegistryProxy) -> None:
    await proxy._close()
    proxy._calm.set()
    proxy._abort()
    me = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not me]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_BASIC: Mapping[str, str] = {"WWW-Authenticate": 'Basic realm="test"'}
_FULL = "filesystem: write /var/lib/registry: no space left on device"
TROUBLES: Mapping[str, Trouble] = {
    "500": Trouble(status=500),
    "503": Trouble(status=503, code="UNAVAILABLE"),
    "401": Trouble(status=401, code="UNAUTHORIZED", headers=tuple(_BASIC.items())),
    "403": Trouble(status=403, code="DENIED"),
    "404": Trouble(status=404, code="NAME_UNKNOWN"),
    "429": Trouble(status=429, code="TOOMANYREQUESTS", headers=(("Retry-After", "2"),)),
    "429-long": Trouble(status=429, code="TOOMANYREQUESTS", headers=(("Retry-After", "86400"),)),
    "reset": Trouble(reset=True),
    "answers-lost": Trouble(mute=True, writes=True),
    "tag-lost": Trouble(mute=True, then_gone=True, writes=True, path="/manifests/1$"),
    "silent": Trouble(silent=True),
    "stall": Trouble(stalls=True),
    "read-only": Trouble(status=405, code="UNSUPPORTED", message="the registry is in read-only mode", writes=True),
    "full": Trouble(status=500, code="UNKNOWN", message="unknown error", detail=_FULL, writes=True),
    "full-507": Trouble(status=507, code="UNKNOWN", message=_FULL, writes=True),
    "slow": Trouble(slow=100_000),
    "away": Trouble(refuses=True),
}
