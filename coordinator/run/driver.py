"""Drive a prepared run to its end, and record every kind of end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from coordinator.domain.image.verified_child import VerifiedChild, from_stored
from coordinator.domain.run.events import Assigned, Place, Reused, RunEnded, RunStarted, Verified
from coordinator.domain.run.job_names import adopted_from
from coordinator.domain.run.model import Job, Run
from coordinator.domain.run.registry_trouble import is_final
from coordinator.domain.run.run_error import run_error
from coordinator.domain.run.states import TargetState
from coordinator.errors import ArchloomError, DrivenElsewhereError, Exit, InterruptedRunError, RegistryError
from coordinator.publish.publish import index_of
from coordinator.run.cache_budgets import keep_cache_budgets
from coordinator.run.context import RunContext
from coordinator.run.dispatch import dispatcher
from coordinator.run.loop import Dispatch, drive
from coordinator.state.logs import log_folder

_PUBLISHING = (TargetState.READY, TargetState.INDEXED, TargetState.TAGGING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A run in the store, with its lease held.

    `began` is the time of the user's command, in epoch seconds; `resumed`: an earlier coordinator began the run.
    """

    context: RunContext
    began: float
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended. `descriptor` is the OCI descriptor of the published index; empty where it is not published.

    `message`, `hint` and `code` are those of the error that ended a run without publication; the message names the tags
    that were moved.
    """

    run: Run
    exit_code: Exit
    descriptor: Mapping[str, object] = field(default_factory=dict)
    message: str = ""
    hint: str = ""
    code: str = ""

    @property
    def digest(self) -> str:
        return str(self.descriptor.get("digest", ""))

    @property
    def modes(self) -> dict[str, str]:
        """How each platform was built, in this run or in the one it was reused from."""
        return {str(job.platform): from_stored(job.child).mode.value for job in self.run.jobs if job.child}


async def drive_to_end(prepared: PreparedRun, dispatch: Dispatch | None = None) -> RunResult:
    """Drive the run until the store allows no action, and record how it ended; also after Ctrl-C.

    Raises DrivenElsewhereError where another coordinator has taken the run over: the run is then left untouched.
    """
    run = prepared.context
    _emit_started(prepared)
    async with run.deletions:
        try:
            result = await _drive(run, dispatch or dispatcher(run))
        except DrivenElsewhereError:
            raise
        except BaseException:
            await _record(run, prepared.began, None)
            raise
        await _record(run, prepared.began, result)
        if result.exit_code is not Exit.INTERRUPTED:
            # The run has ended: Ctrl-C only cuts this short.
            with contextlib.suppress(asyncio.CancelledError):
                await run.deletions.finish(run.emit)
                await keep_cache_budgets(run)
        return result


async def end_cancelled(prepared: PreparedRun) -> None:
    """End a run that is not driven as cancelled. A run that is already published stays published."""
    _emit_started(prepared)
    error = InterruptedRunError(f"run {prepared.context.run_id} was cancelled", code="cancelled")
    await _record(prepared.context, prepared.began, _result_of(prepared.context, error))


def _emit_started(prepared: PreparedRun) -> None:
    """Emit RunStarted, for a new or a resumed run, then the children that it has already."""
    run = prepared.context
    stored = run.store.run(run.run_id)
    run.emit(
        RunStarted(
            run=stored.id,
            tags=tuple(str(tag) for tag in run.request.target.tags),
            platforms=tuple(job.platform for job in stored.jobs),
            log_folder=str(log_folder(run.env.state, stored.id)),
            resumed=prepared.resumed,
        )
    )
    for job in stored.jobs:
        if job.child is not None:
            _emit_child(run, job, from_stored(job.child))
        for attempt in job.live:
            builder = adopted_from(stored.id, attempt.agent_job)
            if builder:
                place = Place(platform=job.platform, host=attempt.host, mode=attempt.mode)
                run.emit(Assigned(place, f"has the image, built by run {builder}"))


def _emit_child(run: RunContext, job: Job, child: VerifiedChild) -> None:
    digest = child.digests[0]
    if job.reused:
        run.emit(Reused(platform=job.platform, digest=digest, pin=child.pin))
    else:
        place = Place(platform=job.platform, host=child.host, mode=child.mode)
        run.emit(Verified(place=place, digest=digest, pin=child.pin, seconds=child.seconds))


async def _drive(run: RunContext, dispatch: Dispatch) -> RunResult:
    try:
        async with _late_hosts(run):
            stored = await drive(run.run_id, run.store, dispatch, run.hosts, run.emit)
        return _published(stored, _tags(run))
    except asyncio.CancelledError:
        reason = run.lease.end_reason or InterruptedRunError("interrupted")
        if isinstance(reason, DrivenElsewhereError) or not isinstance(reason, ArchloomError):
            raise reason from None
        return _result_of(run, reason)
    except DrivenElsewhereError:
        raise
    except ArchloomError as error:
        return _result_of(run, error)


@contextlib.asynccontextmanager
async def _late_hosts(run: RunContext) -> AsyncIterator[None]:
    """Let hosts join while the block runs. Raises the unexpected exception of asking them, where the block has none."""
    if not run.hosts.candidates:
        yield
        return
    from coordinator.run.late_hosts import let_join

    joining = asyncio.create_task(let_join(run))
    try:
        yield
    finally:
        joining.cancel()
        await asyncio.wait({joining})
    if not joining.cancelled():
        joining.result()


def _result_of(run: RunContext, error: ArchloomError) -> RunResult:
    """Return the result for this error, or success where the run is already published; the message names moved tags."""
    stored = run.store.run(run.run_id)
    if stored.target_state is TargetState.PUBLISHED:
        return _published(stored, _tags(run))
    hint = error.hint
    message = "; ".join((error.message, *_what_moved(run, stored, error)))
    is_built = any(not attempt.is_unbuilt for job in stored.jobs for attempt in job.live)
    if stored.target_state in _PUBLISHING or (is_built and isinstance(error, InterruptedRunError)):
        hint = f"{hint}\nwhat was built is kept; to publish it: archloom retry {stored.id}".lstrip()
    elif isinstance(error, InterruptedRunError):
        # A cancelled run has ended, so that it cannot be resumed.
        hint = f"{hint}\nto build it after all: archloom retry {stored.id}".lstrip()
    return RunResult(run=stored, exit_code=error.exit_code, message=message, hint=hint, code=error.code)


def _what_moved(run: RunContext, stored: Run, error: ArchloomError) -> tuple[str, ...]:
    """Say of each tag of an unpublished run what is known: a request without an answer may have moved one."""
    moved = [tag.reference for tag in stored.tags if tag.moved]
    others = ", ".join(tag for tag in map(str, run.request.target.tags) if tag not in moved)
    is_interrupted = isinstance(error, InterruptedRunError)
    said = [f"{', '.join(moved)} moved already"] if moved else []
    if stored.target_state is TargetState.TAGGING and (is_interrupted or not is_final(error.code)):
        said.append(f"{others} may have moved")
    elif is_interrupted and not moved:
        said.append(f"{others} not touched")
    return tuple(said)


def _tags(run: RunContext) -> str:
    return ", ".join(map(str, run.request.target.tags))


async def _record(run: RunContext, began: float, result: RunResult | None) -> None:
    """Cancel the steps in progress if the run did not succeed, then commit and emit the end of the run.

    `result` is None after an unexpected exception.
    """
    exit_code = Exit.BUG if result is None else result.exit_code
    try:
        if exit_code is not Exit.DONE:
            # A second Ctrl-C cuts the clean-up short; the result stays the same.
            from coordinator.run.steps.cancel import cancel_run

            with contextlib.suppress(asyncio.CancelledError):
                await cancel_run(run)
    finally:
        # The time in the store, by which `archloom why` tells the run's duration.
        finished_at = run.store.finish(run.run_id, exit_code)
        run.lease.end()
        run.emit(
            RunEnded(
                run=run.run_id,
                exit_code=exit_code,
                digest=result.digest if result else "",
                tags=tuple(str(tag) for tag in run.request.target.tags),
                platforms=result.modes if result and result.descriptor else {},
                seconds=max(0.0, finished_at - began),
                message=result.message if result else "",
                hint=result.hint if result else "",
            )
        )


def _published(stored: Run, tags: str) -> RunResult:
    """Return the result of a published run. Raises the error of a run that is not published."""
    error = run_error(stored, tags)
    if error is not None:
        raise error
    if stored.target_state is not TargetState.PUBLISHED:
        raise RegistryError(
            f"run {stored.id} ended {stored.target_state}",
            hint=f"archloom retry {stored.id}",
            code=stored.target_state,
        )
    index = index_of(stored)
    return RunResult(
        run=stored,
        exit_code=Exit.DONE,
        descriptor={"mediaType": index.media_type, "digest": index.digest, "size": len(index.raw)},
    )
