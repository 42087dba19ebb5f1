"""Recognises what the host is at fault for, in an error of its engine outside a build."""

from __future__ import annotations

from agents.base.disk import is_read_only, least_room
from agents.base.errors import AgentError
from agents.engine.engine_api import EngineSocket
from agents.engine.engine_disk import folders
from agents.engine.failure_cause import ENGINE_GONE, NO_SPACE, READ_ONLY


def host_error(engine: EngineSocket, said: str) -> AgentError | None:
    """Return the AgentError `disk` (with the bytes free), `read_only` or `engine` for this message; else None.

    The engine removes unfinished files, so there may be room again: its message alone shows a full disk.
    """
    if NO_SPACE.search(said):
        room = least_room(folders(engine.info()))
        return AgentError("disk", said, free=room.bytes if room is not None else 0)
    is_gone = bool(ENGINE_GONE.search(said))
    # A containerd whose disk turns read-only dies, and the engine says only that it is gone.
    if (is_gone or READ_ONLY.search(said)) and any(map(is_read_only, folders(engine.info()))):
        return AgentError("read_only", said)
    return AgentError("engine", said, reason="down") if is_gone else None
