"""The stores that are held to one contract, on a clock that a test moves.

A further implementation joins the tables below and owes nothing else: the contract uses what a Store offers, no more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.lease import Driver
from coordinator.domain.run.model import Attempt, Run
from coordinator.domain.run.states import AttemptEvent, TargetEvent
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store
from tests.services.paths import CASES

GOLDEN = CASES / "store"
AMD64, ARM64 = parse("linux/amd64"), parse("linux/arm64")
OURS, THEIRS = this_driver("ada@here", "ours"), this_driver("bob@there", "theirs")
TO_PUSHED = (AttemptEvent.SEND, AttemptEvent.SENT, AttemptEvent.BUILT, AttemptEvent.PUSH, AttemptEvent.PUSHED)
CHILD = {"digest": "sha256:c"}

# Each makes a store in a folder of its own; those that are shared see the same data when they are made there again.
Make = Callable[[Path, Callable[[], float], Callable[[Driver], bool | None]], Store]
SHARED: dict[str, Make] = {
    "file": lambda folder, clock, is_alive: Store(folder / "archloom.db", clock, is_alive=is_alive),
}
PRIVATE: dict[str, Make] = {
    "memory": lambda _, clock, is_alive: Store(None, clock, is_alive=is_alive),
}


@dataclass
class Bed:
    """Opens stores over the same data, each as another coordinator would, to whom other drivers are `alive` or not."""

    folder: Path
    make: Make
    stack: ExitStack
    now: float = 1000.0
    alive: bool | None = True
    asked: list[Driver] = field(default_factory=list)

    def open(self) -> Store:
        return self.stack.enter_context(self.make(self.folder, lambda: self.now, self._is_alive))

    def _is_alive(self, driver: Driver) -> bool | None:
        self.asked.append(driver)
        return self.alive


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    """A store that several coordinators open."""
    with ExitStack() as stack:
        yield Bed(tmp_path, SHARED[request.param], stack)


@pytest.fixture(params=SHARED | PRIVATE)
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    """A store that is opened once."""
    with ExitStack() as stack:
        yield Bed(tmp_path, (SHARED | PRIVATE)[request.param], stack)


@pytest.fixture
def store(bed: Bed) -> Store:
    return bed.open()


def create(store: Store, run_id: str = "7f3a", tag: str = "nas/app:1", driver: Driver = OURS) -> Run:
    """A run of two platforms."""
    build_ids = {AMD64: "b" * 64, ARM64: "a" * 64}
    inputs = {"bases": {"alpine": "sha256:b"}}
    return store.create_run(run_id, {"tags": [tag]}, build_ids, driver=driver, inputs=inputs, inventory="/farm.yaml")


def assigned(store: Store, job_id: int, *events: AttemptEvent, host: str = "pi5") -> Attempt:
    """A new attempt of the job, after these steps."""
    attempt = store.assign(job_id, host, Mode.NATIVE)
    for event in events:
        store.move_attempt(attempt.id, event)
    return attempt


def end(store: Store, run_id: str = "7f3a", exit_code: int = 4) -> None:
    """The run is given up."""
    store.move_target(run_id, TargetEvent.GIVE_UP)
    store.finish(run_id, exit_code)


def told(store: Store, run_id: str = "7f3a") -> list[str]:
    return [str(event.what) for event in store.events(run_id)]


def old_store(path: Path, version: int) -> Path:
    """A file as archloom left it when its store had this version."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript((GOLDEN / f"{version}.sql").read_text("utf-8"))
        db.execute("PRAGMA journal_mode = WAL")
    path.chmod(0o600)
    return path
