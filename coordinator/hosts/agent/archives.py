"""Archives over bulk channels: an image out of a host, bases into it. See `agents/README.md`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from coordinator.errors import LostError
from coordinator.hosts.agent import replies
from coordinator.hosts.agent.frames import Incoming
from coordinator.hosts.agent.replies import BasesLoaded, HeldImage
from coordinator.hosts.agent.transport import Channel, Ending, Transport

_LARGEST = 1 << 20
_LONGEST_LENGTH = 6
_PIECE = 1 << 18


async def image(transport: Transport, job: str) -> AsyncGenerator[HeldImage | bytes]:
    """Which image it is, then its archive in pieces, whole. Close the iterator when left.

    Raises LostError for what the agent says, and `cut` where the channel ended before the archive did.
    """
    host = transport.host
    channel = await transport.open_bulk(("image", job))
    try:
        incoming = Incoming(channel.reader, host)
        yield replies.held_image(host, await _answer(channel, incoming, host))
        async with aclosing(_pieces(channel, incoming, host)) as pieces:
            async for piece in pieces:
                yield piece
        await channel.close()
    except BaseException:
        # Not an orderly end, which would wait for all the agent has to send.
        await channel.abort()
        raise


async def load(transport: Transport, job: str, chunks: AsyncIterator[bytes]) -> BasesLoaded:
    """The job's bases into the host's engine, from the pieces of an archive; all of them are held, or it raises."""
    host = transport.host
    channel = await transport.open_bulk(("load", job))
    try:
        async for chunk in chunks:
            if not await _send(channel, chunk):
                break
        else:
            # Refused already, it has said why.
            await _write(channel, b"0\n")
        loaded = await _answer(channel, Incoming(channel.reader, host), host)
    finally:
        # In order, also when it is given up: a load that its agent does not see to the end may name bases for nobody.
        await channel.close()
    return BasesLoaded(replies.field(host, loaded, "loaded", int), replies.field(host, loaded, "kept", int))


def gone(host: str, ending: Ending) -> LostError:
    """The agent's process ended without a word of its own."""
    how = "the connection was lost" if ending.exit_status is None else f"exit status {ending.exit_status}"
    said = f": {ending.words.splitlines()[-1]}" if ending.words else ""
    return LostError(f"host '{host}': the agent is gone ({how}){said}", code="connection")


async def _answer(channel: Channel, incoming: Incoming, host: str) -> Mapping[str, Any]:
    answer = await incoming.greeting()
    if answer is None:
        raise gone(host, await channel.close())
    return replies.outcome(host, answer)


async def _send(channel: Channel, chunk: bytes) -> bool:
    for start in range(0, len(chunk), _LARGEST):
        piece = chunk[start : start + _LARGEST]
        if not await _write(channel, b"%x\n%b" % (len(piece), piece)):
            return False
    return True


async def _write(channel: Channel, data: bytes) -> bool:
    """Whether the agent still reads."""
    try:
        channel.writer.write(data)
        await channel.writer.drain()
    except OSError:
        return False
    return True


async def _pieces(channel: Channel, incoming: Incoming, host: str) -> AsyncGenerator[bytes]:
    while True:
        line = await incoming.line(_LONGEST_LENGTH)
        if line is None:
            raise await _cut(channel, host)
        if not line:
            # In place of a piece: what went wrong, on a line of its own.
            answer = await incoming.greeting()
            if answer is None:
                raise await _cut(channel, host)
            replies.outcome(host, answer)
            raise replies.unexpected(host, "an archive ended without its end")
        left = _length(line, host)
        if not left:
            return
        while left:
            data = await incoming.some(min(left, _PIECE))
            if not data:
                raise await _cut(channel, host)
            left -= len(data)
            yield data


def _length(line: bytes, host: str) -> int:
    try:
        length = int(line, 16)
    except ValueError:
        length = -1
    if not 0 <= length <= _LARGEST:
        raise replies.unexpected(host, f"a piece of an archive begins with {line!r}")
    return length


async def _cut(channel: Channel, host: str) -> LostError:
    ending = await channel.close()
    why = gone(host, ending)
    return LostError(f"{why.message}, in the middle of an image's archive", code="cut")
