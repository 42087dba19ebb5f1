"""What a fault has to do with: the lab, the user's machine, and the host that it has been given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.chaos.desk import Command, Desk
from tests.chaos.lab import ChaosLab
from tests.chaos.observer import Observer
from tests.chaos.processes import Process, jobs, processes_below, processes_of
from tests.services.boards import Board


class Target(StrEnum):
    """What a kind of fault strikes. `HOST` is a board or the emulator."""

    BOARD = "board"
    HOST = "host"
    REGISTRY = "registry"
    COORDINATOR = "coordinator"
    STORE = "store"


@dataclass(slots=True, kw_only=True, eq=False)
class Scene:
    """`host` is the name of the struck one, where a host is struck. `kept` is for what a fault needs to heal itself."""

    lab: ChaosLab
    desk: Desk
    observer: Observer
    command: Command | None = None
    host: str = ""
    kept: dict[str, object] = field(default_factory=dict)

    @property
    def board(self) -> Board:
        return self.lab.boards[self.host]

    @property
    def running(self) -> Command:
        assert self.command is not None, "the command has not begun"
        return self.command

    def processes(self) -> list[Process]:
        """Of the struck host: the board's own, or those of the emulator's agent."""
        return processes_of(self.board) if self.host in self.lab.boards else processes_below(self.desk.home.folder)

    def jobs(self) -> list[Process]:
        return jobs(self.job_folders(self.host), self.processes())

    def job_folders(self, host: str) -> list[Path]:
        if host in self.lab.boards:
            return self.lab.boards[host].jobs()
        found = self.desk.home.folder.glob(".local/state/archloom-agent/*/jobs/*")
        return [path for path in found if not path.name.startswith(".")]


Act = Callable[[Scene], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault. `is_on`: whether it is in effect, asked as soon as it was struck.

    `stages`: when it may strike, see `moments`. `lasts`: for how many seconds, chosen at random; None: until the run
    has ended. `exits`: with which codes a run may end because of it, besides 0, where it is never healed in time.
    `spares_images`: what the host has built is there again once it is healed.
    `scaled`: its seconds are of the real world, and made shorter for trials.
    """

    target: Target
    about: str
    strike: Act
    heal: Act = lambda _: None
    is_on: Callable[[Scene], bool] = lambda _: True
    stages: tuple[str, ...] = ("context", "running", "push")
    lasts: tuple[float | None, ...] = (4, 12, None)
    exits: tuple[int, ...] = ()
    spares_images: bool = True
    scaled: bool = False


Kinds = Mapping[str, Kind]


def waited(found: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it comes to be."""
    until = time.monotonic() + seconds
    while not (seen := found()) and time.monotonic() < until:
        time.sleep(0.05)
    return seen


def was_full(scene: Scene) -> bool:
    """Whether less than a MiB was left on the disk right after it was filled."""
    free = scene.kept["free"]
    return isinstance(free, int) and free < 1 << 20
