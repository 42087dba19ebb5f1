"""Watches the host during a build, to tell a failure of the build from a failure of the host.

After the build it is too late: the engine has been restarted, and the files of the build step that filled the disk are
deleted.
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

from agents.base.disk import Room, is_read_only, least_room, space_order
from agents.base.errors import AgentError
from agents.engine.engine_api import Connection, EngineSocket, target, translated

_POLL_S = 0.2
_VMSTAT = Path("/proc/vmstat")
# No object has this label, so the connection carries no events and ends only with the engine.
_SILENT_EVENTS = target("/events", {"filters": '{"label":["archloom.none"]}'})


class Evidence(NamedTuple):
    """`least` is the least room seen, None where no folder could be read; `oom_kills` is for the whole host.

    `read_only` is the first folder whose file system is read-only, else empty.
    """

    engine_died: bool
    oom_kills: int
    least: Room | None
    read_only: str = ""


class Monitor:
    """Context manager around a build. Raises AgentError `engine` on entry where the engine does not answer."""

    def __init__(self, engine: EngineSocket, folders: Sequence[str]) -> None:
        self._engine = engine
        self._folders = folders
        self._connection = Connection(engine.path, None)
        self._socket: socket.socket | None = None
        self._kills_before = 0
        self._least: Room | None = None
        self._finished = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Monitor:  # noqa: PYI034 - Self came with Python 3.11
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
        """Return the evidence collected so far."""
        self._measure_room()
        read_only = next(filter(is_read_only, self._folders), "")
        return Evidence(self._engine_died(), max(0, _oom_kills() - self._kills_before), self._least, read_only)

    def _engine_died(self) -> bool:
        if self._socket is None or _ended(self._socket):
            return True
        try:
            self._engine.call("GET", "/version")
        except AgentError:
            return True
        return False

    def _sample(self) -> None:
        while not self._finished.wait(_POLL_S):
            self._measure_room()

    def _measure_room(self) -> None:
        rooms = [room for room in (least_room(self._folders), self._least) if room is not None]
        self._least = min(rooms, key=space_order, default=None)


def _ended(connection: socket.socket) -> bool:
    """Return whether the engine closed the connection. Discard its answer's headers, the only bytes it sends."""
    try:
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(4096):
                return True
    except OSError:
        return True
    return False


def _oom_kills() -> int:
    """Return the processes the kernel's OOM killer has killed since boot; 0 where the kernel has no such counter."""
    with suppress(OSError, ValueError):
        for line in _VMSTAT.read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
