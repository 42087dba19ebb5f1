"""What the coordinator writes on the bulk channel: one line, then the bodies of the objects that were asked for."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from agents.base.errors import AgentError
from agents.base.fields import mapping

_LONGEST_LINE = 65536
_LARGEST_PIECE = 1 << 20
_UNPACKED = 262144


class Bodies:
    """The stream. Every call raises AgentError `cut` where it ends too early, `bad_request` where it is none."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def opening(self) -> dict[str, Any]:
        """The first line's object."""
        line = self._stream.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise _cut()
        try:
            return mapping(json.loads(line), "the offer")
        except ValueError as error:
            raise AgentError("bad_request", f"the offer is not JSON: {error}") from error

    def body(self, most: int) -> Iterator[bytes]:
        """The next object, unpacked, in pieces of at most 1 MiB; no more than `most` bytes in all."""
        form = self._read(1)
        if form not in {b"=", b"z"}:
            raise AgentError("bad_request", f"an object comes in the unknown form {form!r}")
        for piece in self._pieces() if form == b"=" else _unpacked(self._pieces()):
            most -= len(piece)
            if most < 0:
                raise AgentError("changed", "an object of the context is larger than was said")
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        while True:
            size = int.from_bytes(self._read(4), "big")
            if not size:
                return
            if size > _LARGEST_PIECE:
                raise AgentError("bad_request", f"a piece has {size} bytes, more than {_LARGEST_PIECE}")
            yield self._read(size)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise _cut()
        return data


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    try:
        for piece in pieces:
            waiting = piece
            while waiting and not unpacker.eof:
                yield unpacker.decompress(waiting, _UNPACKED)
                waiting = unpacker.unconsumed_tail
        yield unpacker.flush()
    except zlib.error as error:
        raise AgentError("bad_request", f"an object of the context cannot be unpacked: {error}") from error


def _cut() -> AgentError:
    return AgentError("cut", "the context ended before all of it had come")
