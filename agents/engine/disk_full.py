"""Recognises an engine failure outside a build that a full or read-only disk caused."""

from __future__ import annotations

from agents.base.disk import is_read_only, least_room
from agents.base.errors import AgentError
from agents.engine.engine_api import EngineSocket
from agents.engine.engine_disk import folders
from agents.engine.failure_cause import NO_SPACE, READ_ONLY


def shortage(engine: EngineSocket, said: str) -> AgentError | None:
    """Return the AgentError `disk` with the engine's message `said` and the bytes free, or `read_only`; else None.

    The engine removes unfinished files, so there may be room again: its message alone shows the cause.
    """
    if NO_SPACE.search(said):
        room = least_room(folders(engine.info()))
        return AgentError("disk", said, free=room.bytes if room is not None else 0)
    if READ_ONLY.search(said) and any(map(is_read_only, folders(engine.info()))):
        return AgentError("read_only", said)
    return None
