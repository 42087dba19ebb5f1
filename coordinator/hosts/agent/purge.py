"""Deletes everything of archloom from a host, the agent's own file included. See `agents/README.md`, "Purge"."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, PlainValidator

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.agent import error_codes, replies
from coordinator.hosts.agent.frames import Incoming
from coordinator.hosts.agent.transport import Transport

# Only shown to the user: any JSON value will do.
_Words = Annotated[tuple[Annotated[str, PlainValidator(str)], ...], Field(strict=False)]


class Purged(BaseModel, strict=True, frozen=True):
    """What was deleted: jobs, image names, folders and files, lines of authorized_keys. `kept` lists what was left."""

    jobs: int
    images: _Words
    files: _Words
    keys: int
    kept: _Words


async def purge(transport: Transport, mark: str) -> Purged:
    """Purge the host, then delete the lines of authorized_keys that end with `mark`. Idempotent.

    Raises LostError `connection` where the agent ended without an answer, and the agent's error as
    `error_codes.failure` returns it.
    """
    channel = await transport.open_bulk(("purge",))
    try:
        channel.writer.write(mark.encode() + b"\n")
        await channel.writer.drain()
        channel.writer.write_eof()
        answer = await Incoming(channel.reader, transport.host, deadlines.ANSWER["purge"]).greeting()
    except OSError:
        answer = None
    except LostError:
        await channel.abort()
        raise
    finally:
        ending = await channel.close()
    if answer is None:
        detail = f": {ending.words.splitlines()[-1]}" if ending.words else ""
        raise LostError(f"host '{transport.host}': the agent ended without a reply{detail}", code=Cause.CONNECTION)
    return replies.read(transport.host, error_codes.outcome(transport.host, "purge", answer), Purged)
