"""The store of a build, which goes on without one: what a store that fails costs is history, not the image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from coordinator.domain.run.events import Emit, Notice
from coordinator.environment import Environment
from coordinator.errors import ArchloomError
from coordinator.state.logs import store_path
from coordinator.store.sqlite import Store
from coordinator.store.troubles import DISPENSABLE


def open_store(env: Environment, on_loss: Callable[[ArchloomError], None] | None = None) -> Store:
    """The one in the state folder."""
    return Store(store_path(env.state), env.clock, on_loss=on_loss)


def without_history(emit: Emit) -> Callable[[ArchloomError], None]:
    """Tells, for `on_loss`, what a run goes on without."""

    def report(error: ArchloomError) -> None:
        emit(Notice(f"no history is kept from here, and this run cannot be resumed: {error.message}; {error.hint}"))

    return report


@contextlib.contextmanager
def open_history(env: Environment, emit: Emit) -> Iterator[Store]:
    """The store; a private one in memory where its file cannot be used, now or later, after a notice that says why.

    Raises UsageError for a store of a newer archloom and for a folder that other machines write too.
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
