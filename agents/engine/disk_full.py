"""An engine that failed for want of room, told apart from every other failure."""

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
    """The AgentError `disk` for what the engine said, with the bytes free; None where there is room."""
    room = least_room(folders(engine.info()))
    # The engine has removed what it could not finish, so there may be room again; ENOSPC is all it has to say.
    if (room is not None and is_full(room)) or _NO_SPACE in said.lower():
        return AgentError("disk", said, free=room.bytes if room is not None else 0)
    return None
