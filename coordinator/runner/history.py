"""The store of a build, which may go on without one: what it costs is history, not the image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from coordinator.domain.events import Event, Notice
from coordinator.errors import ArchloomError
from coordinator.runner.around import Around
from coordinator.runner.logs import store_path
from coordinator.store.sqlite import Store

# A newer archloom's store, and a folder that other machines write too, are for the user to decide about.
_DISPENSABLE = frozenset({"readonly", "corrupt", "disk", "locked"})


@contextlib.contextmanager
def open_history(around: Around, emit: Callable[[Event], None]) -> Iterator[Store]:
    """The store; where its file cannot be used, a private one in memory after a notice that says why."""
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(Store(store_path(around.state), around.clock))
        except ArchloomError as error:
            if error.code not in _DISPENSABLE:
                raise
            emit(Notice(f"no history is kept, and this run cannot be resumed: {error.message}"))
            store = stack.enter_context(Store(None, around.clock))
        yield store
