"""The second half of a run: driven to its end, and written down as it ended, whichever way that is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.verified_child import VerifiedChild, from_stored
from coordinator.domain.placement.schedule import Candidate
from coordinator.domain.run.events import Place, Reused, RunEnded, RunStarted, Verified
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.run_error import run_error
from coordinator.domain.run.states import TargetState
from coordinator.errors import ArchloomError, Exit, HeldError, InterruptedRunError, RegistryError
from coordinator.publish.publish import index_of
from coordinator.run.context import Loom
from coordinator.run.loop import Dispatch, drive
from coordinator.run.steps.cancel import stop
from coordinator.state.logs import log_folder

_PUBLISHING = (TargetState.READY, TargetState.INDEXED, TargetState.TAGGING)


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


@dataclass(slots=True)
class RunOutcome:
    """How a run ended, once it has; `awaited` since it is driven to its end."""

    value: Published | ArchloomError | None = None
    awaited: bool = False


def tell_of_run(loom: Loom, run: Run, *, resumed: bool) -> None:
    """The first event of a run, and again the first of one that is taken up; the children it has follow."""
    loom.emit(
        RunStarted(
            run=run.id,
            tags=tuple(str(tag) for tag in loom.request.target.tags),
            platforms=tuple(job.platform for job in run.jobs),
            log_folder=str(log_folder(loom.env.state, run.id)),
            resumed=resumed,
        )
    )
    for job in run.jobs:
        if job.child is not None:
            _tell_of_child(loom, job, from_stored(job.child))


def _tell_of_child(loom: Loom, job: Job, child: VerifiedChild) -> None:
    digest = child.digests[0]
    if job.reused:
        loom.emit(Reused(platform=job.platform, digest=digest, pin=child.pin))
    else:
        here = Place(platform=job.platform, host=child.host, mode=child.mode)
        loom.emit(Verified(place=here, digest=digest, pin=child.pin, seconds=child.seconds))


async def finish(
    loom: Loom, chosen: Mapping[Platform, Sequence[Candidate]], perform: Dispatch, begun: float, outcome: RunOutcome
) -> None:
    """Drives the run to its end and tells the outcome: an error, which says which tags moved, for a run that is not
    published.

    `perform` does an action as `loop.drive` asks it to; `begun` is when the user asked, in epoch seconds. Raises
    HeldError where another coordinator has taken the run over: then nothing of it is touched any more.
    """
    outcome.awaited = True
    try:
        value = await _driven(loom, chosen, perform)
    except HeldError:
        raise
    except BaseException:
        await _write_down(loom, None, begun)
        raise
    await _write_down(loom, value, begun)
    outcome.value = value


async def end_cancelled(loom: Loom, begun: float) -> None:
    """Ends a run that nobody drives as one that was cancelled; one that was published already stays that."""
    error = InterruptedRunError(f"run {loom.run_id} was cancelled", code="cancelled")
    await _write_down(loom, _outcome(loom, error), begun)


async def _driven(
    loom: Loom, chosen: Mapping[Platform, Sequence[Candidate]], perform: Dispatch
) -> Published | ArchloomError:
    try:
        run = await drive(loom.run_id, loom.store, perform, chosen, loom.farm.slots, loom.emit)
        return _published(run, _tags(loom))
    except asyncio.CancelledError:
        why = loom.lease.why or InterruptedRunError("interrupted")
        if isinstance(why, HeldError) or not isinstance(why, ArchloomError):
            raise why from None
        return _outcome(loom, why)
    except HeldError:
        raise
    except ArchloomError as error:
        return _outcome(loom, error)


def _outcome(loom: Loom, error: ArchloomError) -> Published | ArchloomError:
    """What this error means for the run, which may have been published just before; and which tags have moved."""
    run = loom.store.run(loom.run_id)
    if run.target_state is TargetState.PUBLISHED:
        return _published(run, _tags(loom))
    moved = ", ".join(tag.reference for tag in run.tags if tag.moved)
    told, hint = error.message, error.hint
    if moved:
        told = f"{told}; {moved} moved already"
    elif isinstance(error, InterruptedRunError):
        told = f"{told}; {_tags(loom)} not touched"
    if run.target_state in _PUBLISHING:
        hint = f"{hint}\nwhat was built is kept; to publish it: archloom retry {run.id}".lstrip()
    return type(error)(told, hint=hint, code=error.code)


def _tags(loom: Loom) -> str:
    return ", ".join(map(str, loom.request.target.tags))


async def _write_down(loom: Loom, outcome: Published | ArchloomError | None, begun: float) -> None:
    """`None` is a bug of ours."""
    match outcome:
        case Published():
            code = Exit.DONE
        case ArchloomError():
            code = outcome.exit_code
        case None:
            code = Exit.BUG
    try:
        if code is not Exit.DONE:
            # A second Ctrl-C cuts the clean-up short; how the run ended stands.
            with contextlib.suppress(asyncio.CancelledError):
                await stop(loom)
    finally:
        loom.store.finish(loom.run_id, code)
        _tell_of_end(loom, outcome, code, begun)


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
            seconds=loom.env.clock() - begun,
            message=failure.message if failure is not None else "",
            hint=failure.hint if failure is not None else "",
        )
    )


def _published(run: Run, tags: str) -> Published:
    """Raises what the run has to be complained of."""
    problem = run_error(run, tags)
    if problem is not None:
        raise problem
    if run.target_state is not TargetState.PUBLISHED:
        raise RegistryError(
            f"run {run.id} ended {run.target_state}", hint=f"archloom retry {run.id}", code=run.target_state
        )
    index = index_of(run)
    return Published(
        run=run, descriptor={"mediaType": index.media_type, "digest": index.digest, "size": len(index.raw)}
    )
