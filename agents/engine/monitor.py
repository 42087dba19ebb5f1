"""What the host goes through while a build runs: the facts that tell a build's own failure from the host's.

Looked at during the build, because afterwards it is too late: the engine has been restarted, and the step that filled
the disk is gone with what it wrote.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from agents.base.disk import Room, by_room, least_room
from agents.base.errors import AgentError
from agents.engine.engine_api import Connection, EngineSocket, target, translated

_LOOK = 0.2
_VMSTAT = Path("/proc/vmstat")
# Nothing has this label: the connection is silent, and ends with the engine.
_SILENT_EVENTS = target("/events", {"filters": '{"label":["archloom.none"]}'})


class Evidence(NamedTuple):
    """`least` is the least room seen, None where none could be looked at; `oom_kills` counts the whole host's."""

    engine_died: bool
    oom_kills: int
    least: Room | None


class Witness:
    """A context manager around a build. Raises AgentError `engine` where the engine is not there to begin with."""

    def __init__(self, engine: EngineSocket, folders: Sequence[str]) -> None:
        self._engine = engine
        self._folders = folders
        self._connection = Connection(engine.path, None)
        self._socket: socket.socket | None = None
        self._kills_before = 0
        self._least: Room | None = None
        self._finished = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Witness:  # noqa: PYI034 - Self came with Python 3.11
        with translated(self._engine.path):
            self._connection.request("GET", _SILENT_EVENTS)
            self._socket = self._connection.sock
        self._kills_before = _oom_kills()
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finished.set()
        self._sampler.join()
        self._connection.close()

    def evidence(self) -> Evidence:
        """What was seen so far."""
        self._look()
        return Evidence(self._engine_died(), max(0, _oom_kills() - self._kills_before), self._least)

    def _engine_died(self) -> bool:
        if self._socket is None or _ended(self._socket):
            return True
        try:
            self._engine.call("GET", "/version")
        except AgentError:
            return True
        return False

    def _sample(self) -> None:
        while not self._finished.wait(_LOOK):
            self._look()

    def _look(self) -> None:
        rooms = [room for room in (least_room(self._folders), self._least) if room is not None]
        self._least = min(rooms, key=by_room, default=None)


def _ended(connection: socket.socket) -> bool:
    """Whether the other side is gone. The headers of its answer are all it ever sent."""
    try:
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(4096):
                return True
    except OSError:
        return True
    return False


def _oom_kills() -> int:
    """Processes the kernel has killed for want of memory since boot; 0 where it does not count."""
    with suppress(OSError, ValueError):
        for line in _VMSTAT.read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
