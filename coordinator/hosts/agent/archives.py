"""Image archives over bulk channels: an image from a host, bases to a host. See `agents/README.md`, "Archives"."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.agent import chunks, error_codes, replies
from coordinator.hosts.agent.frames import Incoming, send
from coordinator.hosts.agent.replies import BasesLoaded, HeldImage
from coordinator.hosts.agent.transport import Channel, Ending, Transport


async def image(transport: Transport, job: str) -> AsyncGenerator[HeldImage | bytes]:
    """Yield the image that the job built, then its complete archive in pieces.

    Close the iterator when leaving early. Raises the agent's error as `error_codes.outcome` does, LostError
    `connection` where the agent ended before its first answer, and LostError `cut` where the channel ended before the
    archive did.
    """
    host = transport.host
    channel = await transport.open_bulk(("image", job))
    try:
        incoming = Incoming(channel.reader, host, deadlines.ARCHIVE_BEGIN)
        yield replies.read(host, await _answer(channel, incoming, host, "image"), HeldImage)
        try:
            async with aclosing(chunks.receive(incoming, host, "image")) as archive:
                async for data in archive:
                    incoming.patience = deadlines.STALL
                    yield data
        except EOFError:
            raise await _cut(channel, host) from None
        await channel.close()
    except BaseException:
        # `close` would first read everything that the agent still sends.
        await channel.abort()
        raise


async def load(transport: Transport, job: str, archive: AsyncIterator[bytes]) -> BasesLoaded:
    """Load the job's bases into the host's engine from the pieces of an archive, and return the counts.

    On return the engine holds every base of the job. Raises the agent's error as `error_codes.outcome` does, and
    LostError `connection` where the agent ended without an answer.
    """
    host = transport.host
    channel = await transport.open_bulk(("load", job))
    try:
        async for data in archive:
            if not await send(channel.writer, b"".join(chunks.encode(data)), host):
                # The agent stopped reading: its error answer is on the channel already.
                break
        else:
            await send(channel.writer, chunks.END, host)
        loaded = await _answer(channel, Incoming(channel.reader, host, deadlines.STALL), host, "load")
    except LostError as lost:
        if lost.code == Cause.PROTOCOL:
            await channel.abort()
        raise
    finally:
        # Do not abort an agent, even when cancelled: the engine may finish a load whose agent was killed, and name
        # bases that no job owns.
        await channel.close()
    return replies.read(host, loaded, BasesLoaded)


def gone(host: str, ending: Ending) -> LostError:
    """Return LostError `connection`: the agent's process ended without an answer."""
    how = "the connection was lost" if ending.exit_status is None else f"exit status {ending.exit_status}"
    detail = f": {ending.words.splitlines()[-1]}" if ending.words else ""
    return LostError(f"host '{host}': the agent is gone ({how}){detail}", code=Cause.CONNECTION)


async def _answer(channel: Channel, incoming: Incoming, host: str, op: str) -> Mapping[str, Any]:
    answer = await incoming.greeting()
    if answer is None:
        raise gone(host, await channel.close())
    return error_codes.outcome(host, op, answer)


async def _cut(channel: Channel, host: str) -> LostError:
    ending = await channel.close()
    loss = gone(host, ending)
    return LostError(f"{loss.message} during the transfer of an image archive", code=Cause.CUT)
