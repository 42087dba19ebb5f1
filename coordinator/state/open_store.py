"""Open the store. A command continues without a usable store: a build loses its history, not the image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from coordinator.domain.run.events import Emit, Notice
from coordinator.environment import Environment
from coordinator.errors import ArchloomError
from coordinator.state.logs import store_path
from coordinator.store.sqlite import Store
from coordinator.store.troubles import DISPENSABLE

# How the notice of a lost store begins.
NO_HISTORY = "no history is kept from now on"


def open_store(env: Environment, on_loss: Callable[[ArchloomError], None] | None = None) -> Store:
    """Return the store in the state folder. `on_loss` is called with the error when the store fails later."""
    return Store(store_path(env.state), env.clock, wall_clock=env.wall_clock, on_loss=on_loss)


def without_history(emit: Emit) -> Callable[[ArchloomError], None]:
    """Return an `on_loss` function that emits a notice about the lost history."""

    def report(error: ArchloomError) -> None:
        emit(Notice(f"{NO_HISTORY}, and this run cannot be resumed: {error.message}; {error.hint}"))

    return report


@contextlib.contextmanager
def open_history(env: Environment, emit: Emit) -> Iterator[Store]:
    """Open the store; where its file cannot be used, now or later, emit a notice and use a private one in memory.

    Raises UsageError for a store of a newer archloom, and for a folder that other machines may write to.
    """
    on_loss = without_history(emit)
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(open_store(env, on_loss))
            store.check()
        except ArchloomError as error:
            if error.code not in DISPENSABLE:
                raise
            on_loss(error)
            store = stack.enter_context(Store(None, env.clock))
        yield store


@contextlib.contextmanager
def open_store_if_usable(env: Environment, emit: Emit) -> Iterator[Store]:
    """Open the store for its facts about hosts; where it cannot be opened, emit a notice and use an empty one."""
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(open_store(env))
        except ArchloomError as error:
            emit(Notice(f"no facts of the hosts are cached: {error.message}"))
            store = stack.enter_context(Store(None, env.clock))
        yield store
