"""Deletes everything of archloom from a host, the agent's own file included. See `agents/README.md`, "Purge"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.errors import LostError
from coordinator.hosts.agent import replies
from coordinator.hosts.agent.frames import Incoming
from coordinator.hosts.agent.transport import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What was deleted: jobs, image names, folders and files, lines of authorized_keys. `kept` lists what was left."""

    jobs: int
    images: tuple[str, ...]
    files: tuple[str, ...]
    keys: int
    kept: tuple[str, ...]


async def purge(transport: Transport, mark: str) -> Purged:
    """Purge the host, then delete the lines of authorized_keys that end with `mark`. Idempotent.

    Raises LostError `connection` where the agent ended without an answer, and the agent's error as `replies.failure`
    returns it.
    """
    channel = await transport.open_bulk(("purge",))
    try:
        channel.writer.write(mark.encode() + b"\n")
        await channel.writer.drain()
        channel.writer.write_eof()
        answer = await Incoming(channel.reader, transport.host).greeting()
    except OSError:
        answer = None
    finally:
        ending = await channel.close()
    if answer is None:
        detail = f": {ending.words.splitlines()[-1]}" if ending.words else ""
        raise LostError(f"host '{transport.host}': the agent left without a word{detail}", code="connection")
    if "error" in answer:
        raise replies.failure(transport.host, replies.field(transport.host, answer, "error", dict))
    return _purged(transport.host, replies.field(transport.host, answer, "ok", dict))


def _purged(host: str, done: Mapping[str, Any]) -> Purged:
    return Purged(
        jobs=replies.field(host, done, "jobs", int),
        images=tuple(map(str, replies.field(host, done, "images", list))),
        files=tuple(map(str, replies.field(host, done, "files", list))),
        keys=replies.field(host, done, "keys", int),
        kept=tuple(map(str, replies.field(host, done, "kept", list))),
    )
