"""Wait for a registry that fails in the middle of a run, and try again until it serves or the patience is over.

The image stays on its host meanwhile, so that nothing is built twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from coordinator.domain.durations import span
from coordinator.domain.run.events import RegistryBack, RegistryWait
from coordinator.domain.run.registry_trouble import LONGEST_SILENCE_S, RegistryUse, is_trouble, line_is_due, next_pause
from coordinator.errors import ArchloomError, RegistryError, UsageError

if TYPE_CHECKING:
    from coordinator.run.context import RunContext

T = TypeVar("T")


@dataclass(slots=True)
class _Trouble:
    use: RegistryUse
    registry: str
    since: float
    tries: int = 0
    error: str = ""


@dataclass(slots=True)
class RegistryPatience:
    """The troubles of one run with its registries, by the name of the use that failed. `clock` is monotonic."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    troubles: dict[str, _Trouble] = field(default_factory=dict)
    # When the user was last told of a registry.
    told_at: dict[str, float] = field(default_factory=dict)


async def persist(run: RunContext, use: RegistryUse, act: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `act`, which is repeated while a registry fails. It must be safe to repeat.

    Raises its error at once where no other try can succeed; RegistryError once the run's patience is over.
    """
    while True:
        try:
            result = await act()
        except (RegistryError, UsageError) as error:
            await wait(run, use, begin_wait(run, use, error))
        else:
            end_wait(run, use)
            return result


def begin_wait(run: RunContext, use: RegistryUse, error: ArchloomError) -> float:
    """Record and emit that this use failed; return the seconds to wait before the next try.

    The next try reads the credentials again. Raises `error` where it cannot pass, and RegistryError once the patience
    is over.
    """
    if not is_trouble(error):
        raise error
    patience, now = run.patience, run.patience.clock()
    registry = (error.registry if isinstance(error, RegistryError) else "") or use.registry
    waited = error.waited if isinstance(error, RegistryError) else 0.0
    trouble = patience.troubles.setdefault(use.name, _Trouble(use, registry, now - waited))
    trouble.tries += 1
    trouble.error = error.message
    left = trouble.since + run.session.inventory.registry_patience - now
    if left <= 0:
        del patience.troubles[use.name]
        tries = "1 try" if trouble.tries == 1 else f"{trouble.tries} tries"
        raise RegistryError(
            f"{error.message}; gave registry {registry} up after {span(now - trouble.since)}, {tries}",
            hint=error.hint,
            code=error.code,
            registry=registry,
        )
    _tell(run, trouble, error.message, now, left)
    run.registries.start_over(registry)
    asked = error.retry_after if isinstance(error, RegistryError) else 0.0
    return min(next_pause(trouble.tries, asked), left)


async def wait(run: RunContext, use: RegistryUse, pause: float) -> None:
    """Wait for the next try. A long pause, as a registry may ask for, is told of again."""
    trouble, patience = run.patience.troubles[use.name], run.patience
    began = patience.clock()
    while (rest := pause - (patience.clock() - began)) > LONGEST_SILENCE_S:
        await patience.sleep(min(LONGEST_SILENCE_S, rest))
        now = patience.clock()
        _tell(run, trouble, trouble.error, now, trouble.since + run.session.inventory.registry_patience - now)
    await patience.sleep(max(0.0, rest))


def end_wait(run: RunContext, use: RegistryUse) -> None:
    """Record that this use has succeeded; emit it where it had failed before."""
    patience = run.patience
    trouble = patience.troubles.pop(use.name, None)
    if trouble is None:
        return
    if not any(other.registry == trouble.registry for other in patience.troubles.values()):
        patience.told_at.pop(trouble.registry, None)
    seconds = patience.clock() - trouble.since
    run.emit(RegistryBack(registry=trouble.registry, seconds=seconds, tries=trouble.tries + 1, platforms=use.platforms))


def forget_wait(run: RunContext, use: RegistryUse) -> None:
    """Forget the failures of this use: something else than a registry ended it."""
    run.patience.troubles.pop(use.name, None)


def _tell(run: RunContext, trouble: _Trouble, text: str, now: float, left: float) -> None:
    """Emit the wait, once for all uses of the registry that wait: a new one at once, and then now and then."""
    patience = run.patience
    told_at = patience.told_at.get(trouble.registry)
    is_new = trouble.tries == 1
    if told_at is not None and not is_new and not line_is_due(now - trouble.since, now - told_at):
        return
    patience.told_at[trouble.registry] = now
    waiting = [other for other in patience.troubles.values() if other.registry == trouble.registry]
    run.emit(
        RegistryWait(
            registry=trouble.registry,
            text=text,
            seconds=now - trouble.since,
            tries=trouble.tries,
            left=left,
            platforms=tuple(dict.fromkeys(platform for other in waiting for platform in other.use.platforms)),
            kept={platform: host for other in waiting for platform, host in other.use.kept.items()},
        )
    )
