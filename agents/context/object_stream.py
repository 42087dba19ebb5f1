"""Read what the coordinator sends of a context: one line of JSON, then the bodies of the objects the agent asked for.

The stream is that of the bulk channel, or made of one request of the control channel.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from agents.base.errors import AgentError
from agents.base.fields import mapping
from agents.wire import chunks

_MAX_LINE_BYTES = 65536
_UNPACKED_PIECE_BYTES = 262144


class Bodies:
    """Reads the stream. Methods raise AgentError `cut` where it ends early, `bad_request` where it is malformed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def opening(self) -> dict[str, Any]:
        """Return the JSON object in the first line."""
        line = self._stream.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise chunks.cut()
        try:
            return mapping(json.loads(line), "the offer")
        except ValueError as error:
            raise AgentError("bad_request", f"the offer is not JSON: {error}") from error

    def body(self, most: int) -> Iterator[bytes]:
        """Yield the next object, decompressed, in pieces of at most 1 MiB.

        Raises AgentError `changed` where it is larger than `most` bytes.
        """
        form = self._stream.read(1)
        if not form:
            raise chunks.cut()
        if form not in {b"=", b"z"}:
            raise AgentError("bad_request", f"an object comes in the unknown form {form!r}")
        received = chunks.receive(self._stream)
        for piece in received if form == b"=" else _unpacked(received):
            most -= len(piece)
            if most < 0:
                raise AgentError("changed", "an object of the context is larger than announced")
            yield piece


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
