"""A lock of the agent's own files is waited for, but not for ever."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agents.base.errors import AgentError
from agents.base.locks import locked


def test_a_lock_that_stays_held_is_an_error_that_names_it(tmp_path: Path):
    """The holder may hang, in an engine or on a disk: who waits answers in time."""
    with locked(tmp_path), pytest.raises(AgentError) as busy, locked(tmp_path, patience=0.0):
        pass

    assert busy.value.code == "busy"
    assert busy.value.message == f"another process of archloom on this host has held {tmp_path}/lock for 0 s"
    assert busy.value.detail == {"holder": "", "since": 0.0}


def test_a_lock_that_is_freed_in_time_is_taken(tmp_path: Path):
    """By the thread or process that waits."""
    taken = threading.Event()

    def take() -> None:
        with locked(tmp_path):
            taken.set()

    with locked(tmp_path):
        waiter = threading.Thread(target=take)
        waiter.start()
        assert not taken.is_set()
    waiter.join(60)
    assert taken.is_set()
