"""Read a tar stream member by member, and write tar headers, without touching the file system."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import malformed
from coordinator.errors import LostError, RegistryError

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
# An extension header holds a name or a link target that does not fit into a member's own header.
_MAX_EXTENSION_BYTES = 1 << 16
_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL = b"L", b"K", b"x", b"g"
_EXTENSIONS = (_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL)


class Kind(Enum):
    FILE = auto()
    FOLDER = auto()
    LINK = auto()


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.LINK,
    tarfile.LNKTYPE: Kind.LINK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member. `name`, and for a LINK `target`, are relative to the archive's root, without `.` and `..`."""

    name: str
    kind: Kind
    size: int = 0
    target: str = ""


@dataclass(slots=True)
class _Extended:
    """Values of extension headers that replace those of the next member's own header."""

    name: str = ""
    link: str = ""
    size: int | None = None
    seen: set[bytes] = field(default_factory=set)


class Tar:
    """The members of the archive in `chunks`, which may be split anywhere. `what` names the archive in messages.

    Every method raises LostError `cut` where the stream ends before the archive does, and RegistryError `malformed` for
    content that no image archive has: names that lead outside, special files, sparse files.
    """

    def __init__(self, chunks: AsyncIterator[bytes], what: str) -> None:
        self._chunks = chunks
        self._what = what
        self._buffer = bytearray()
        # Unread bytes of the current member, and the padding after it.
        self._left = 0
        self._padding = 0

    async def next(self) -> Member | None:
        """Skip the unread bytes of the current member and return the next member, `None` at the archive's end."""
        extended = _Extended()
        while True:
            await self._skip()
            block = await self._exactly(BLOCK)
            if not any(block):
                await self._finish()
                return None
            header = self._header(block)
            if header.type not in _EXTENSIONS:
                return self._member(header, extended)
            if header.size > _MAX_EXTENSION_BYTES or header.type in extended.seen:
                raise self._malformed(f"a member has {header.size} bytes of extended header")
            data = await self._exactly(header.size)
            await self._exactly(-header.size % BLOCK)
            self._extend(extended, header.type, data)

    async def content(self) -> AsyncGenerator[bytes]:
        """Yield the bytes of the current member in pieces. `next` skips unread bytes."""
        while self._left:
            if not self._buffer:
                await self._more()
            piece = bytes(self._buffer[: self._left])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            yield piece

    async def peek(self, count: int) -> bytes:
        """Return up to `count` of the next bytes of the current member without consuming them."""
        count = min(count, self._left)
        while len(self._buffer) < count:
            await self._more()
        return bytes(self._buffer[:count])

    async def whole(self, member: Member, limit: int) -> bytes:
        """Return all bytes of the current member. Raises RegistryError `malformed` beyond `limit` bytes."""
        if member.size > limit:
            raise self._malformed(f"{member.name} has {member.size} bytes, more than {limit}")
        return b"".join([piece async for piece in self.content()])

    async def _finish(self) -> None:
        if any(await self._exactly(BLOCK)):
            raise self._malformed("one zero block does not end a tar archive")
        # After the two zero blocks only padding to the writer's record size may follow.
        chunk: bytes | bytearray | None = self._buffer
        while chunk is not None:
            if any(chunk):
                raise self._malformed("data follows its end")
            chunk = await anext(self._chunks, None)

    async def _skip(self) -> None:
        async for _ in self.content():
            pass
        await self._exactly(self._padding)
        self._padding = 0

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _more(self) -> None:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            raise LostError(f"{self._what} was cut: it ended early", code=Cause.CUT)
        self._buffer += chunk

    def _header(self, block: bytes) -> tarfile.TarInfo:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._malformed(f"a member has no header: {error}") from error
        if header.size < 0:
            raise self._malformed(f"{header.name} has {header.size} bytes")
        return header

    def _member(self, header: tarfile.TarInfo, extended: _Extended) -> Member:
        name = self._inside(extended.name or header.name, "")
        kind = _KINDS.get(header.type)
        if kind is None:
            raise self._malformed(f"{name} is not a file, a folder or a link")
        if kind is not Kind.FILE:
            target = ""
            if kind is Kind.LINK:
                start = posixpath.dirname(name) if header.issym() else ""
                target = self._inside(extended.link or header.linkname, start)
            return Member(name=name, kind=kind, target=target)
        self._left = header.size if extended.size is None else extended.size
        self._padding = -self._left % BLOCK
        return Member(name=name, kind=kind, size=self._left)

    def _inside(self, text: str, start: str) -> str:
        path = posixpath.normpath(posixpath.join(start, text))
        if not text or path.startswith(("/", "../")) or path == ".." or "\0" in path:
            raise self._malformed(f"{text!r} leads out of the archive")
        return path

    def _extend(self, extended: _Extended, kind: bytes, data: bytes) -> None:
        extended.seen.add(kind)
        text = data.decode("utf-8", "surrogateescape")
        if kind == _LONG_NAME:
            extended.name = text.rstrip("\0")
        elif kind == _LONG_LINK:
            extended.link = text.rstrip("\0")
        elif kind == _EXTENDED:
            records = self._records(data)
            if any(key.startswith(b"GNU.sparse.") for key in records):
                raise self._malformed("it has a sparse file")
            extended.name = records.get(b"path", b"").decode("utf-8", "surrogateescape") or extended.name
            extended.link = records.get(b"linkpath", b"").decode("utf-8", "surrogateescape") or extended.link
            if b"size" in records:
                if not records[b"size"].isdigit():
                    raise self._malformed(f"a member has {records[b'size']!r} bytes")
                extended.size = int(records[b"size"])

    def _records(self, data: bytes) -> dict[bytes, bytes]:
        """Parse pax records: `25 path=some/thing\\n`, one after the other."""
        records: dict[bytes, bytes] = {}
        while data:
            length, _, _ = data.partition(b" ")
            size = 0
            with suppress(ValueError):
                size = int(length)
            key, separator, value = data[len(length) + 1 : size].partition(b"=")
            if size > len(data) or size < len(length) + 2 or not separator or not value.endswith(b"\n"):
                raise self._malformed("an extended header cannot be read")
            records[key] = value[:-1]
            data = data[size:]
        return records

    def _malformed(self, reason: str) -> RegistryError:
        return malformed(self._what, reason)


def header(name: str, size: int) -> bytes:
    """Return the header of a file, the same bytes for the same name and size."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT if size < 1 << 33 else tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return the zero bytes that follow a file of `size` bytes."""
    return bytes(-size % BLOCK)
