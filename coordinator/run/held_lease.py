"""The lease of a run while it is driven: send heartbeats, and watch for `archloom cancel`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from coordinator.domain.run.lease import HEARTBEAT_S
from coordinator.errors import ArchloomError, DrivenElsewhereError, InterruptedRunError
from coordinator.store.sqlite import Store

_POLL_S = 1.0


class HeldLease:
    """Keep the lease that `store` has taken while the block runs.

    Cancels the block, once, when another coordinator has taken the run over (`end_reason` is then a
    DrivenElsewhereError), after `archloom cancel` (InterruptedRunError), or after an unexpected exception. After
    another ArchloomError, such as a full disk, it tries again in 1 s. The block then raises `end_reason` in place of
    CancelledError, unless it handles the cancellation itself. `heeds_cancel`: watch for `archloom cancel`.
    """

    def __init__(self, store: Store, run_id: str, *, heeds_cancel: bool = True) -> None:
        self.end_reason: Exception | None = None
        self._store = store
        self._run_id = run_id
        self._heeds_cancel = heeds_cancel
        self._is_over = False

    async def __aenter__(self) -> Self:
        work = asyncio.current_task()
        if work is None:
            raise RuntimeError("a lease needs a running task")
        self._work = work
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        if isinstance(error, asyncio.CancelledError) and self.end_reason is not None:
            raise self.end_reason from None

    def end(self) -> None:
        """Keep the lease no longer: the run has ended, and its driver has only to clean up."""
        self._is_over = True

    def beat(self) -> None:
        """Send a heartbeat now. Raises DrivenElsewhereError where another coordinator has taken the run over."""
        self._store.beat(self._run_id)

    async def _keep(self) -> None:
        time = asyncio.get_running_loop().time
        beat_at = time() + HEARTBEAT_S
        while True:
            await asyncio.sleep(_POLL_S)
            if self._is_over:
                return
            try:
                if self._heeds_cancel and self.end_reason is None and self._store.cancel_asked(self._run_id):
                    self._end(InterruptedRunError(f"run {self._run_id} was cancelled", code="cancelled"))
                if time() >= beat_at:
                    self.beat()
                    beat_at = time() + HEARTBEAT_S
            except DrivenElsewhereError as error:
                self._end(error)
                return
            except ArchloomError:
                # The disk may be full only for a moment: retry soon. If it stays full, the next commit fails.
                beat_at = time() + _POLL_S
            except Exception as error:  # noqa: BLE001 - a run must not go on without its lease being kept
                self._end(error)
                return

    def _end(self, end_reason: Exception) -> None:
        self.end_reason = end_reason
        self._work.cancel()
