"""Sends the objects of a context that a host lacks, over a bulk channel. See `agents/README.md`, "context"."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

from coordinator.hosts.agent import chunks, replies
from coordinator.hosts.agent.frames import Incoming, send
from coordinator.hosts.agent.transport import Writer

T = TypeVar("T")
_RAW, _PACKED = b"=", b"z"
# Small pieces are joined to writes of this size or more.
_WRITE_BYTES = 262144
# zlib level 1 takes 13 ns a byte on the coordinator. On the board inflating takes less time than it saves in
# decryption.
_ZLIB_LEVEL = 1
# A file is compressed where its first _SAMPLE_BYTES bytes shrink below this ratio; images and archives do not.
_SAMPLE_BYTES = 16384
_MAX_RATIO = 0.8
# The agent asks for an object again where its disk has damaged it.
_MAX_ASKED = 3


class Offer(Protocol):
    """A context as objects by digest. `root` is the digest of its own folder, `size` the bytes of all files."""

    root: str
    entries: int
    files: int
    size: int

    def folder(self, digest: str, /) -> bytes | None: ...
    def file_size(self, digest: str, /) -> int | None: ...
    def content(self, digest: str, /) -> Generator[bytes]:
        """Yield the file's content. Blocks on disk reads."""
        ...


@dataclass(frozen=True, slots=True)
class MissingFiles:
    """How many files the host lacks, of the context's `of` files, and their bytes."""

    files: int
    of: int
    bytes: int


class ContextSender:
    """The coordinator's side of one context transfer. `pack`: compress files, which trades CPU time for bytes.

    `progress` receives how many bytes of files were sent, uncompressed.
    """

    def __init__(
        self, incoming: Incoming, writer: Writer, host: str, *, pack: bool, progress: Callable[[int], None]
    ) -> None:
        self._progress = progress
        self._sent = 0
        self._incoming = incoming
        self._writer = writer
        self._host = host
        self._pack = pack
        # How often each digest was asked for, by kind: only digests of the offer are in it.
        self._asked: dict[str, Counter[str]] = {"folders": Counter(), "files": Counter()}

    async def send(self, offer: Offer, tell: Callable[[MissingFiles], None]) -> Mapping[str, Any] | None:
        """Send what the agent asks for; return its final answer, `ok` or `error`, or None where the channel ended.

        `tell` is called once with what the host lacks, unless the transfer ends before that is known. An exception
        from `offer` propagates and ends the transfer.
        """
        lacking = MissingFiles(0, offer.files, 0)
        opening = {"root": offer.root, "entries": offer.entries, "bytes": offer.size}
        reads = await send(self._writer, json.dumps(opening).encode() + b"\n", self._host)
        while (message := await self._incoming.greeting()) is not None and "want" in message:
            kind, digests = await self._question(offer, message)
            if kind == "files":
                sizes = (self._offered(offer.file_size(digest), digest) for digest in digests)
                lacking = MissingFiles(len(digests), offer.files, sum(sizes))
                tell(lacking)
            # After a failed write, only read: the agent's error answer follows, or the channel's end.
            reads = reads and await self._answer(self._bodies(offer, kind, digests))
        if message is not None and "ok" in message and not lacking.files:
            tell(lacking)
        return message

    async def _question(self, offer: Offer, line: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Return kind and digests of one question, whose first line is `line`.

        Reads the question to its end: the agent reads bodies only after its last line. Each of its lines asks for
        objects of the offer, for none of them again and again: that bounds the lines, and the memory.
        """
        kind = replies.read(self._host, line, str, "want")
        if kind not in self._asked:
            raise replies.unexpected(self._host, f"it asks for {kind!r:.80}")
        digests = self._wanted(offer, kind, line)
        while replies.read(self._host, line, bool, "more"):
            line = await self._incoming.greeting() or {}
            if line.get("want") != kind:
                raise replies.unexpected(self._host, "a request for files that has no end")
            digests += self._wanted(offer, kind, line)
        return kind, digests

    def _wanted(self, offer: Offer, kind: str, line: Mapping[str, Any]) -> list[str]:
        digests = replies.read(self._host, line, list[str], "digests")
        if not digests:
            raise replies.unexpected(self._host, "it asks for nothing")
        asked = self._asked[kind]
        for digest in digests:
            self._offered(offer.folder(digest) if kind == "folders" else offer.file_size(digest), digest)
            asked[digest] += 1
            if asked[digest] > _MAX_ASKED:
                raise replies.unexpected(self._host, f"it asks for {digest!r} again and again")
        return digests

    def _bodies(self, offer: Offer, kind: str, digests: Sequence[str]) -> Generator[bytes]:
        for digest in digests:
            if kind == "folders":
                yield from _body(_PACKED, (zlib.compress(self._offered(offer.folder(digest), digest)),))
            else:
                with closing(offer.content(digest)) as content:
                    yield from _file(self._counted(content), pack=self._pack)

    def _counted(self, content: Iterator[bytes]) -> Iterator[bytes]:
        for piece in content:
            self._sent += len(piece)
            yield piece

    def _offered(self, value: T | None, digest: str) -> T:
        if value is None:
            raise replies.unexpected(self._host, f"it asks for {digest!r:.80}, which it was not offered")
        return value

    async def _answer(self, bodies: Generator[bytes]) -> bool:
        """Write the bodies; return False where the agent stopped reading."""
        writes = _gathered(bodies)
        try:
            while (data := await _next(writes)) is not None:
                if not await send(self._writer, data, self._host):
                    return False
                self._progress(self._sent)
        finally:
            writes.close()
        return True


def _file(content: Iterator[bytes], *, pack: bool) -> Iterator[bytes]:
    first = next(content, b"")
    whole = chain((first,), content)
    if pack and _shrinks(first[:_SAMPLE_BYTES]):
        return _body(_PACKED, _packed(whole))
    return _body(_RAW, whole)


def _packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(_ZLIB_LEVEL)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _shrinks(sample: bytes) -> bool:
    return len(zlib.compress(sample, _ZLIB_LEVEL)) < _MAX_RATIO * len(sample)


def _body(form: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield one body: its form, then the pieces as chunks."""
    yield form
    for piece in pieces:
        yield from chunks.encode(piece)
    yield chunks.END


def _gathered(bodies: Generator[bytes]) -> Generator[bytes]:
    """Join small pieces to `_WRITE_BYTES` or more, so that many small files take few writes."""
    pending = bytearray()
    try:
        for piece in bodies:
            pending += piece
            if len(pending) >= _WRITE_BYTES:
                yield bytes(pending)
                pending.clear()
        yield bytes(pending)
    finally:
        bodies.close()


async def _next(writes: Generator[bytes]) -> bytes | None:
    step = asyncio.ensure_future(asyncio.to_thread(next, writes, None))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        # Wait for the thread: a generator that is running cannot be closed.
        await asyncio.wait([step])
        raise
