"""A context to a host over its bulk channel: only the objects that the host says it lacks. See `agents/README.md`."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

from coordinator.hosts.agent import replies
from coordinator.hosts.agent.frames import Incoming
from coordinator.hosts.agent.transport import Writer

T = TypeVar("T")
_RAW, _PACKED = b"=", b"z"
# What is read and written at once. The agent refuses pieces of more than 1 MiB.
_AT_ONCE = 262144
# Level 1 takes 13 ns a byte here, and the board less than it saves there in decryption.
_LEVEL = 1
# A file is packed where its beginning shrinks below this part of itself: pictures and archives never do.
_SAMPLE = 16384
_WORTHWHILE = 0.8


class Offer(Protocol):
    """A context by its objects; `entries`, `files` and `size` (bytes of all files) are counts."""

    root: str
    entries: int
    files: int
    size: int

    def folder(self, digest: str, /) -> bytes | None: ...
    def file_size(self, digest: str, /) -> int | None: ...
    def content(self, digest: str, /) -> Generator[bytes]:
        """Blocks while it reads."""
        ...


@dataclass(frozen=True, slots=True)
class Lacking:
    """What is sent: of the `of` files of a context the `files` that the host lacks, and their bytes."""

    files: int
    of: int
    bytes: int


class ContextSender:
    """The coordinator's part of one transfer. `pack`: spend processor time to send fewer bytes."""

    def __init__(self, incoming: Incoming, writer: Writer, host: str, *, pack: bool) -> None:
        self._incoming = incoming
        self._writer = writer
        self._host = host
        self._pack = pack

    async def send(self, offer: Offer, tell: Callable[[Lacking], None]) -> Mapping[str, Any] | None:
        """The agent's last word, `ok` or `error`; None where it is gone. What `offer` raises ends the transfer.

        `tell` hears once what the host lacks, unless the transfer ends before that is known.
        """
        lacking = Lacking(0, offer.files, 0)
        opening = {"root": offer.root, "entries": offer.entries, "bytes": offer.size}
        reads = await self._write(json.dumps(opening).encode() + b"\n")
        while (said := await self._incoming.greeting()) is not None and "want" in said:
            kind, digests = await self._question(said)
            if kind == "files":
                sizes = (self._offered(offer.file_size(digest), digest) for digest in digests)
                lacking = Lacking(len(digests), offer.files, sum(sizes))
                tell(lacking)
            # Once it does not read any more it has said why, or is gone.
            reads = reads and await self._answer(self._bodies(offer, kind, digests))
        if said is not None and "ok" in said and not lacking.files:
            tell(lacking)
        return said

    async def _question(self, said: Mapping[str, Any]) -> tuple[str, list[str]]:
        """What is wanted, from all its lines: the agent reads answers only after the last."""
        kind = replies.field(self._host, said, "want", str)
        if kind not in {"folders", "files"}:
            raise replies.unexpected(self._host, f"it wants {kind!r}")
        digests = list(replies.field(self._host, said, "digests", list))
        while replies.field(self._host, said, "more", bool):
            said = await self._incoming.greeting() or {}
            if said.get("want") != kind:
                raise replies.unexpected(self._host, "a question has no end")
            digests += replies.field(self._host, said, "digests", list)
        return kind, digests

    def _bodies(self, offer: Offer, kind: str, digests: Sequence[str]) -> Generator[bytes]:
        for digest in digests:
            if kind == "folders":
                packed = zlib.compress(self._offered(offer.folder(digest), digest))
                yield from _body(_PACKED, (packed[at : at + _AT_ONCE] for at in range(0, len(packed), _AT_ONCE)))
            else:
                with closing(offer.content(digest)) as content:
                    yield from _file(content, pack=self._pack)

    def _offered(self, value: T | None, digest: str) -> T:
        if value is None:
            raise replies.unexpected(self._host, f"it wants {digest!r}, which it was not offered")
        return value

    async def _answer(self, bodies: Generator[bytes]) -> bool:
        """Whether all of it was taken."""
        chunks = _gathered(bodies)
        try:
            while (chunk := await _next(chunks)) is not None:
                if not await self._write(chunk):
                    return False
        finally:
            chunks.close()
        return True

    async def _write(self, data: bytes) -> bool:
        """Whether the other end still reads."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            return False
        return True


def _file(content: Iterator[bytes], *, pack: bool) -> Iterator[bytes]:
    begun = next(content, b"")
    whole = chain((begun,), content)
    if pack and _shrinks(begun[:_SAMPLE]):
        return _body(_PACKED, _packed(whole))
    return _body(_RAW, whole)


def _packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(_LEVEL)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _shrinks(sample: bytes) -> bool:
    return len(zlib.compress(sample, _LEVEL)) < _WORTHWHILE * len(sample)


def _body(form: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """How it is written, its pieces with their lengths, and an empty one as the end."""
    yield form
    for piece in pieces:
        if piece:
            yield len(piece).to_bytes(4, "big")
            yield piece
    yield bytes(4)


def _gathered(bodies: Generator[bytes]) -> Generator[bytes]:
    """Small pieces together, so that many small files are few writes."""
    waiting = bytearray()
    try:
        for piece in bodies:
            waiting += piece
            if len(waiting) >= _AT_ONCE:
                yield bytes(waiting)
                waiting.clear()
        yield bytes(waiting)
    finally:
        bodies.close()


async def _next(chunks: Generator[bytes]) -> bytes | None:
    step = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        # The thread is inside the generator, which cannot be closed before it has come out.
        await asyncio.wait([step])
        raise
