"""The deletions of verified jobs on their hosts: the run goes on beside them, and its process waits for their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Self

from coordinator.domain.run.events import Emit, Notice

_NOTICE_AFTER_S = 3.0
_log = logging.getLogger("archloom.run")


class Deletions:
    """The tasks of one run, by host. What has not ended when the block ends is cancelled: a later run deletes it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, host: str, deletion: Coroutine[None, None, None]) -> None:
        """Begin a deletion, which has its own time limit."""
        self._tasks.add(asyncio.create_task(deletion, name=host))

    def are_under_way(self, host: str) -> bool:
        """Return whether a deletion on this host has not ended."""
        return any(task.get_name() == host and not task.done() for task in self._tasks)

    async def finish(self, emit: Emit) -> None:
        """Wait for the end of every deletion; name the hosts after 3 s. An error is logged: the run has its result."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=_NOTICE_AFTER_S)
        if late:
            hosts = ", ".join(sorted({task.get_name() for task in late}))
            emit(Notice(f"waiting for {hosts} to delete what this run left there; the result is the same"))
            await asyncio.wait(late)
        for task in self._tasks:
            if error := task.exception():
                _log.warning("%s: a job was not deleted", task.get_name(), exc_info=error)
