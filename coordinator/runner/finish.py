"""The second half of a run: driven to its end, and written down as it ended, whichever way that is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.domain.events import RunEnded
from coordinator.domain.outcome import complaint
from coordinator.domain.platforms import Platform
from coordinator.domain.run import Build, Cancel, Publish, Push, Run, Send, Verify
from coordinator.domain.schedule import Candidate
from coordinator.domain.states import TargetState
from coordinator.errors import ArchloomError, Exit, InterruptedRunError, RegistryError
from coordinator.runner.build import build
from coordinator.runner.child import from_stored
from coordinator.runner.loom import Loom
from coordinator.runner.loop import Work, drive
from coordinator.runner.publish import index_of, publish
from coordinator.runner.push import push
from coordinator.runner.send import send
from coordinator.runner.stop import cancel, stop
from coordinator.runner.verify import verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A run whose tags are moved. `descriptor` is the index's, as an index of indexes would name it."""

    run: Run
    descriptor: dict[str, object]

    @property
    def digest(self) -> str:
        return str(self.descriptor["digest"])

    @property
    def modes(self) -> dict[str, str]:
        """How each platform was built, in this run or in the one it was reused from."""
        return {str(job.platform): from_stored(job.child).mode.value for job in self.run.jobs if job.child}


async def finish(loom: Loom, chosen: Mapping[Platform, Sequence[Candidate]], begun: float) -> Published:
    """Drives the run to its end. Raises ArchloomError for one that is not published; it says which tags moved.

    `begun` is when the user asked, in epoch seconds.
    """
    tags = tuple(str(tag) for tag in loom.request.target.tags)
    published: Published | None = None
    failure: ArchloomError | None = None
    code = Exit.BUG
    try:
        run = await drive(loom.run_id, loom.store, _performer(loom), chosen, loom.farm.slots, loom.emit)
        published = _published(run, ", ".join(tags))
    except asyncio.CancelledError:
        code = Exit.INTERRUPTED
        moved = [tag.reference for tag in loom.store.run(loom.run_id).tags if tag.moved]
        said = f"{', '.join(moved)} moved already" if moved else f"{', '.join(tags)} not touched"
        failure = InterruptedRunError(f"interrupted; {said}")
        raise failure from None
    except ArchloomError as error:
        code, failure = error.exit_code, error
        raise
    else:
        code = Exit.DONE
        return published
    finally:
        try:
            if code is not Exit.DONE:
                # A second Ctrl-C cuts the clean-up short; why the run ended is being told already.
                with contextlib.suppress(asyncio.CancelledError):
                    await stop(loom)
        finally:
            loom.store.finish(loom.run_id, code)
            _tell_of_end(loom, published or failure, code, begun)


def _tell_of_end(loom: Loom, outcome: Published | ArchloomError | None, code: Exit, begun: float) -> None:
    published = outcome if isinstance(outcome, Published) else None
    failure = outcome if isinstance(outcome, ArchloomError) else None
    loom.emit(
        RunEnded(
            run=loom.run_id,
            exit_code=code,
            digest=published.digest if published is not None else "",
            tags=tuple(str(tag) for tag in loom.request.target.tags),
            platforms=published.modes if published is not None else {},
            seconds=loom.around.clock() - begun,
            message=failure.message if failure is not None else "",
            hint=failure.hint if failure is not None else "",
        )
    )


def _published(run: Run, tags: str) -> Published:
    """Raises what the run has to be complained of."""
    problem = complaint(run, tags)
    if problem is not None:
        raise problem
    if run.target_state is not TargetState.PUBLISHED:
        raise RegistryError(f"run {run.id} ended {run.target_state}", hint="build again", code="conflict")
    index = index_of(run)
    return Published(
        run=run, descriptor={"mediaType": index.media_type, "digest": index.digest, "size": len(index.raw)}
    )


def _performer(loom: Loom) -> Callable[[Work], Coroutine[Any, Any, None]]:
    async def perform(action: Work) -> None:
        match action:
            case Send(attempt_id):
                await send(loom, attempt_id)
            case Build(attempt_id):
                await build(loom, attempt_id)
            case Push(attempt_id):
                await push(loom, attempt_id)
            case Verify(attempt_id):
                await verify(loom, attempt_id)
            case Cancel(attempt_id):
                await cancel(loom, attempt_id)
            case Publish():
                await publish(loom, loom.run_id)

    return perform
