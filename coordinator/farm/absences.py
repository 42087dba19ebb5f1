"""The hosts that do not answer now. Each is tried again until it answers, for as long as the run lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from coordinator.domain.causes import rule
from coordinator.errors import LostError
from coordinator.hosts.agent.client import AgentClient

# How often to try while the host is waited for, and after that.
_PAUSE_S, _LATER_PAUSE_S = 1.0, 5.0
# How often to say how long a host is still waited for.
_LINE_S = 10.0


@dataclass(slots=True)
class _Absence:
    """`since` and `until` are in the event loop's time; `error` is that of the last try."""

    since: float
    until: float
    error: LostError
    tries: asyncio.Task[AgentClient] | None = None


class Absences:
    """The absences of one run. `connect` opens the connection, and prepares a host that is back for its next work.

    `on_change` is called when a host goes away or comes back.
    """

    def __init__(self, connect: Callable[[str], Awaitable[AgentClient]], on_change: Callable[[], None]) -> None:
        self._connect = connect
        self._on_change = on_change
        self._absences: dict[str, _Absence] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._absences

    def begin(self, name: str, error: LostError, patience: float) -> None:
        """Record that the host does not answer, and try it again. It is waited for `patience` seconds."""
        if name not in self._absences:
            now = asyncio.get_running_loop().time()
            absence = self._absences[name] = _Absence(now, now + patience, error)
            absence.tries = asyncio.create_task(self._try(name, absence))
            self._on_change()

    async def end(self, name: str, tell: Callable[[float], None]) -> AgentClient:
        """Return the agent once the host answers; `tell` gets now and then for how many seconds it is waited for.

        Raises LostError, that of the last try, where the patience is over or no further try can succeed.
        """
        absence = self._absences[name]
        tries = absence.tries
        if tries is None:
            raise RuntimeError(f"host '{name}' is not tried")
        while not tries.done():
            left = absence.until - asyncio.get_running_loop().time()
            if left <= 0:
                raise _again(absence.error)
            tell(left)
            await asyncio.wait({tries}, timeout=min(left, _LINE_S))
        if tries.exception() is not None:
            raise _again(absence.error)
        return tries.result()

    def away(self, seconds: float = 0.0) -> frozenset[str]:
        """Return the hosts that have not answered for at least so many seconds."""
        now = asyncio.get_running_loop().time()
        return frozenset(name for name, absence in self._absences.items() if now - absence.since >= seconds)

    def gone(self) -> frozenset[str]:
        """Return the hosts that are no longer waited for."""
        now = asyncio.get_running_loop().time()
        return frozenset(name for name, absence in self._absences.items() if _is_over(absence, now))

    def next_moment(self, *ages: float) -> float | None:
        """Return when the next absence reaches one of these ages, or its patience ends, in the event loop's time.

        None for never.
        """
        now = asyncio.get_running_loop().time()
        moments = [
            moment
            for absence in self._absences.values()
            for moment in (absence.until, *(absence.since + age for age in ages))
        ]
        return min((moment for moment in moments if moment > now), default=None)

    async def close(self) -> None:
        """End all tries. Raises the first unexpected exception of one."""
        tasks = [absence.tries for absence in self._absences.values() if absence.tries]
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, LostError):
                raise outcome

    async def _try(self, name: str, absence: _Absence) -> AgentClient:
        while True:
            try:
                client = await self._connect(name)
            except LostError as error:
                absence.error = error
                if not rule(error.code).may_return:
                    self._on_change()
                    raise
            else:
                del self._absences[name]
                self._on_change()
                return client
            is_late = asyncio.get_running_loop().time() > absence.until
            await asyncio.sleep(_LATER_PAUSE_S if is_late else _PAUSE_S)


def _is_over(absence: _Absence, now: float) -> bool:
    return now >= absence.until or (absence.tries is not None and absence.tries.done())


def _again(error: LostError) -> LostError:
    # A new object for each raise: one exception raised in many tasks accumulates all their tracebacks.
    return LostError(error.message, hint=error.hint, code=error.code)
