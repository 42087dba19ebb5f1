"""`archloom cancel` beside the process that drives the run."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.environment import Environment
from coordinator.state.logs import store_path
from coordinator.state.open_store import open_store
from coordinator.usecases.cancel import cancel
from tests.edges.store.store_bed import create

PATIENCE = 30.0
# Several times as long as the pause between two looks of `cancel`.
SEVERAL_LOOKS_S = 1.0


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(
        environ={}, home=tmp_path, folder=tmp_path, state=tmp_path, clock=lambda: 1000.0, holder="ada@here"
    )


@pytest.fixture
def writer(env: Environment) -> Iterator[sqlite3.Connection]:
    """A run that this process drives, and a connection of its driver."""
    with open_store(env) as store:
        create(store)
        with closing(sqlite3.connect(store_path(env.state), isolation_level=None)) as db:
            yield db


def asked(db: sqlite3.Connection) -> bool:
    tick = threading.Event()
    return any(
        db.execute("SELECT cancel_asked FROM runs").fetchone()[0] or tick.wait(0.01) for _ in range(int(PATIENCE * 100))
    )


def test_a_run_that_its_driver_ends_meanwhile_is_cancelled(env, writer):
    """`cancel` saw it open, and waits for the store to take its lease when the driver's last write ends it."""

    def hosts() -> None:
        pytest.fail("nobody needs the hosts of a run that has ended")

    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(lambda: asyncio.run(cancel("7f3a", hosts, env, lambda _: None)))
        assert asked(writer)
        writer.execute("BEGIN IMMEDIATE")
        threading.Event().wait(SEVERAL_LOOKS_S)
        writer.execute("DELETE FROM leases")
        writer.execute("UPDATE runs SET target_state = 'incomplete', finished_at = 1000.0, exit_code = 130")
        writer.execute("COMMIT")

        assert cancelled.result(PATIENCE).exit_code == 130
