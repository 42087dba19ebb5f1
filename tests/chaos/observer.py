"""What really runs, as this machine's kernel sees it: each execution of a build's RUN step, and where.

Boards share the kernel, so every process of every container is in /proc. Nothing that archloom or an engine says is
believed here.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_EVERY_S = 0.15
_PATIENCE = 30.0
# The pid namespace of a container is below its board's. What the board itself runs is no step.
Where = Callable[[int], str]


@dataclass(slots=True, kw_only=True)
class Execution:
    """One run of the step. `ended` is None while it lives; times are monotonic."""

    pid: int
    platform: str
    host: str
    began: float
    ended: float | None = None

    def overlaps(self, other: Execution) -> bool:
        first, second = sorted((self, other), key=lambda one: one.began)
        return first.ended is None or first.ended > second.began


@dataclass(slots=True, eq=False)
class Observer:
    """`executions` of the steps whose command has the token, as they began. `where` names the host of a process.

    `commands` are the command lines of everything that ran meanwhile.
    """

    token: str
    where: Where
    executions: list[Execution] = field(default_factory=list)
    commands: set[str] = field(default_factory=set)
    _living: dict[tuple[int, str], Execution] = field(default_factory=dict)

    def of(self, platform: str, since: float = 0.0) -> list[Execution]:
        return [one for one in self.executions if one.platform == platform and one.began >= since]

    def living(self) -> list[Execution]:
        return [one for one in self.executions if one.ended is None]

    def look(self) -> None:
        """One look at all processes. Raises nothing: they come and go."""
        now, seen = time.monotonic(), set()
        for folder in _PROC.glob("[0-9]*"):
            with suppress(OSError, ValueError):
                command = (folder / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").strip()
                self.commands.add(command)
                if self.token in command and "/bin/sh -c" in command:
                    key = (int(folder.name), _started(folder))
                    seen.add(key)
                    if key not in self._living and (begun := self._begun(folder, now)):
                        self._living[key] = begun
                        self.executions.append(begun)
        for key in set(self._living) - seen:
            self._living.pop(key).ended = now

    def _begun(self, folder: Path, now: float) -> Execution | None:
        environment = (folder / "environ").read_bytes().decode("utf-8", "replace").split("\0")
        values = dict(line.partition("=")[::2] for line in environment)
        if "TARGETARCH" not in values:  # a program that starts the step
            return None
        parent = _PROC / (folder / "stat").read_text().rpartition(")")[2].split()[1] / "cmdline"
        with suppress(OSError):
            if self.token in parent.read_bytes().decode("utf-8", "replace"):
                return None  # the step's shell, about to start a program
        words = [values["TARGETOS"], values["TARGETARCH"], values.get("TARGETVARIANT", "")]
        platform = "/".join(filter(None, words))
        return Execution(pid=int(folder.name), platform=platform, host=self.where(int(folder.name)), began=now)


def _started(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[19]


@contextmanager
def observed(token: str, where: Where) -> Iterator[Observer]:
    """An observer that looks all the time while the block runs."""
    observer, over = Observer(token, where), threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY_S):
            observer.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield observer
    finally:
        over.set()
        thread.join(_PATIENCE)


def host_by_cgroup(names: Mapping[str, str], otherwise: str) -> Where:
    """Which host a container's process runs on. `names` are the hosts by the kernel's names of their boards."""

    def where(pid: int) -> str:
        with suppress(OSError):
            groups = (_PROC / str(pid) / "cgroup").read_text()
            for name, host in names.items():
                if re.search(rf"/{re.escape(name)}(/|$)", groups, re.MULTILINE):
                    return host
        return otherwise

    return where
