"""The coordinator's side of the bulk channel: one line of JSON, then the bodies of the objects the agent asked for."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from agents.base.errors import AgentError
from agents.base.fields import mapping

_MAX_LINE_BYTES = 65536
_MAX_PIECE_BYTES = 1 << 20
_UNPACKED_PIECE_BYTES = 262144


class Bodies:
    """Reads the stream. Methods raise AgentError `cut` where it ends early, `bad_request` where it is malformed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def opening(self) -> dict[str, Any]:
        """Return the JSON object in the first line."""
        line = self._stream.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise _cut()
        try:
            return mapping(json.loads(line), "the offer")
        except ValueError as error:
            raise AgentError("bad_request", f"the offer is not JSON: {error}") from error

    def body(self, most: int) -> Iterator[bytes]:
        """Yield the next object, decompressed, in pieces of at most 1 MiB.

        Raises AgentError `changed` where it is larger than `most` bytes.
        """
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
            if size > _MAX_PIECE_BYTES:
                raise AgentError("bad_request", f"a piece has {size} bytes, more than {_MAX_PIECE_BYTES}")
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
            packed = piece
            while packed and not unpacker.eof:
                yield unpacker.decompress(packed, _UNPACKED_PIECE_BYTES)
                packed = unpacker.unconsumed_tail
        yield unpacker.flush()
    except zlib.error as error:
        raise AgentError("bad_request", f"an object of the context cannot be unpacked: {error}") from error


def _cut() -> AgentError:
    return AgentError("cut", "the context ended before all of it had come")
