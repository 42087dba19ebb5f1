"""`archloom`, killed by nobody but itself: `dying.py N WORDS…` ends by SIGKILL right after the run's Nth commit.

With `-N` it ends in place of that commit: what it would have written down is done, and nobody knows. The commit that
creates the run is the first. What is committed before, facts of hosts, is of no run; a run that is gone on with counts
from the moment it is taken up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from coordinator.cli.main import run
from coordinator.store.database import Database
from coordinator.store.sqlite import Store


def die_at(commits: int, *, instead: bool) -> None:
    """Makes this process end so."""
    left: list[int] = []
    change, begin = Database.change, (Store.create_run, Store.take_lease)

    @contextlib.contextmanager
    def counted(self: Database) -> Iterator[None]:
        with change(self):
            yield
            if left == [1] and instead:
                os.kill(os.getpid(), signal.SIGKILL)
        if left:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    def begun(method: Callable[..., Any]) -> Callable[..., Any]:
        def begin(self: Store, *words: Any, **more: Any) -> Any:
            left[:] = [commits]
            return method(self, *words, **more)

        return begin

    Database.change = counted  # type: ignore[method-assign]
    Store.create_run, Store.take_lease = map(begun, begin)  # type: ignore[method-assign]


if __name__ == "__main__":
    at = int(sys.argv[1])
    die_at(abs(at), instead=at < 0)
    sys.exit(run(sys.argv[2:]))
