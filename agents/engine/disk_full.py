"""Recognises an engine failure that a full disk caused."""

from __future__ import annotations

import errno
import os

from agents.base.disk import least_room
from agents.base.errors import AgentError
from agents.engine.engine_api import EngineSocket
from agents.engine.engine_disk import folders
from agents.engine.failure_cause import is_full

_NO_SPACE = os.strerror(errno.ENOSPC).lower()


def shortage(engine: EngineSocket, said: str) -> AgentError | None:
    """Return the AgentError `disk` with the engine's message `said` and the bytes free; None where there is room."""
    room = least_room(folders(engine.info()))
    # The engine removes unfinished files, so there may be room again: then only ENOSPC in its message shows the cause.
    if (room is not None and is_full(room)) or _NO_SPACE in said.lower():
        return AgentError("disk", said, free=room.bytes if room is not None else 0)
    return None
