"""One core for a board and all that runs on it, and what it used: by the groups of cgroup v1."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.boards import Board

_GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def starts_on(core: int, group: str) -> Iterator[None]:
    """What this thread starts meanwhile runs on that core, and its time is counted: sshd, engine, their children."""
    if not (_GROUPS / "cpuset").is_dir():
        raise SystemExit(f"{_GROUPS / 'cpuset'} is missing: boards of one core need cgroup v1")
    thread = str(threading.get_native_id())
    _bound(core, group)
    for kind in ("cpuset", "cpuacct"):
        (_GROUPS / kind / group).mkdir(exist_ok=True)
        (_GROUPS / kind / group / "tasks").write_text(thread)
    try:
        yield
    finally:
        for kind in ("cpuset", "cpuacct"):
            (_GROUPS / kind / "tasks").write_text(thread)


def _bound(core: int, group: str) -> None:
    folder = _GROUPS / "cpuset" / group
    folder.mkdir(exist_ok=True)
    (folder / "cpuset.cpus").write_text(str(core))
    (folder / "cpuset.mems").write_text("0")


@dataclass(frozen=True, slots=True)
class Core:
    """`groups`: of the board's own processes, and of its containers."""

    board: Board
    groups: tuple[str, str]

    def cpu(self) -> float:
        """Seconds that the board has computed so far, containers included."""
        files = [_GROUPS / "cpuacct" / group / "cpuacct.usage" for group in self.groups]
        return sum(int(file.read_text()) for file in files if file.exists()) / 1e9

    def processes(self) -> list[int]:
        """The board's own, as this machine counts."""
        return [int(pid) for pid in (_GROUPS / "cpuacct" / self.groups[0] / "cgroup.procs").read_text().split()]

    def wire(self) -> int:
        """Bytes that its cable has carried so far, both ways."""
        folder = Path("/sys/class/net", self.groups[1], "statistics")
        return sum(int((folder / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


def core(board: Board, number: int, group: str) -> Core:
    """The core of a board that was started in that group. Its containers, in another group, keep to it too."""
    name = board._kernel_name  # noqa: SLF001 - the engine's `cgroup-parent`, and the cable's name
    _bound(number, name)
    return Core(board, (group, name))
