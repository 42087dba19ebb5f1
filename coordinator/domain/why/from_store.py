"""The entries of a run from the store alone: less than from its recorded events, for when these were deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from coordinator.domain.image.references import short
from coordinator.domain.inputs.pins import shown_pin
from coordinator.domain.run.history import AttemptChange, HistoryEntry, JobChange, RunChange, RunEnded, TagMoved
from coordinator.domain.run.model import Attempt, Job, Run, StoredEvent
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, ended
from coordinator.domain.why.entries import Entry, TimelineKind

# A phase lasts as long as the attempt is in this state.
_PHASES = {
    AttemptState.SENDING: "send",
    AttemptState.BUILDING: "build",
    AttemptState.PUSHING: "push",
    AttemptState.PUSHED: "verify",
}
# A job may be sent before the host has a slot for it, and the store has no time of its turn.
_TEXTS = {"build": "build, with the wait for its turn"}
# The events of a job that begin an attempt, by their names.
_BEGINS = frozenset({"assign", "hedge"})
_BAD_EVENTS = frozenset({AttemptEvent.FAIL, AttemptEvent.LOSE, AttemptEvent.CANCEL, AttemptEvent.PUSH_LOST})


def run_timeline(run: Run, events: Iterable[StoredEvent]) -> tuple[Entry, ...]:
    """Return the entries of the run as a whole: which coordinators drove it, its tags, and how it ended."""
    entries = ((event, _of_run(run, event.what, event.data)) for event in events)
    return tuple(Entry(at=event.at, kind=TimelineKind.NOTE, name="run", text=text) for event, text in entries if text)


def job_timeline(job: Job, events: Sequence[StoredEvent]) -> tuple[Entry, ...]:
    """Return the entries of a job, from its committed steps."""
    entries = [entry for attempt in job.attempts for entry in _of_attempt(job, attempt, events)]
    for event in events:
        match event.what:
            case JobChange(job.platform, _, change, JobState() as state):
                entries += _ended(job, event.at, change, state)
            case _:
                pass
    return tuple(sorted(entries, key=lambda entry: entry.at))


def _of_run(run: Run, what: HistoryEntry | None, data: Mapping[str, str]) -> str:
    holder = data.get("holder", "")
    match what:
        case RunChange.CREATED:
            return f"started by {holder}" if holder else "started"
        case RunChange.TAKEN_UP:
            return f"gone on with by {holder}"
        case RunChange.TAKEN_OVER:
            return f"taken over by {holder} from {data.get('before', '')}, silent for {data.get('silent', '')}"
        case RunChange.RELEASED:
            return "released by its driver"
        case RunChange.CANCEL_ASKED:
            return "asked to cancel"
        case TagMoved(reference):
            return _tag(run, reference)
        case RunEnded(code):
            return f"ended with exit code {code}"
        case _:
            return ""


def _tag(run: Run, reference: str) -> str:
    """Return the same line that the build prints for this tag."""
    previous = next((tag.previous for tag in run.tags if tag.reference == reference), "")
    if previous == run.index_digest:
        return f"tag {reference} is {short(previous)} already"
    was = f" (was {short(previous)})" if previous else ""
    return f"tag {reference} → {short(run.index_digest)}{was}"


def _of_attempt(job: Job, attempt: Attempt, events: Sequence[StoredEvent]) -> Iterator[Entry]:
    text = f"attempt {attempt.number} on {attempt.host} ({attempt.mode})"
    since = _begin(job, attempt, events)
    yield Entry(at=since, kind=TimelineKind.NOTE, name="attempt", text=text)
    for event in events:
        match event.what:
            case AttemptChange(job.platform, attempt.number, before, change, AttemptState() as after):
                yield from _phase(before, since, event.at)
                yield from _badly(change, after, event)
                since = event.at
            case JobChange(job.platform, _, JobEvent.VERIFY, JobState()):
                if attempt.state is AttemptState.PUSHED:
                    yield from _phase(AttemptState.PUSHED, since, event.at)
            case _:
                pass


def _begin(job: Job, attempt: Attempt, events: Iterable[StoredEvent]) -> float:
    """Return when the attempt began, by the events: their times are continuous, those of attempts need not be."""
    begins = (event.at for event in events if _is_begin(job, event.what))
    return next(islice(begins, attempt.number - 1, None), attempt.started_at)


def _is_begin(job: Job, what: HistoryEntry | None) -> bool:
    match what:
        case JobChange(job.platform, _, change, JobState()):
            return change in _BEGINS
        case _:
            return False


def _phase(state: AttemptState, since: float, at: float) -> Iterator[Entry]:
    name = _PHASES.get(state, "")
    if name:
        yield Entry(
            at=since, kind=TimelineKind.PHASE, name=name, text=_TEXTS.get(name, name), seconds=max(0.0, at - since)
        )


def _badly(change: AttemptEvent, after: AttemptState, event: StoredEvent) -> Iterator[Entry]:
    if change in _BAD_EVENTS:
        code = f" ({event.data['code']})" if "code" in event.data else ""
        message = event.data.get("message", "")
        reason = f": {message}" if message not in ("", after) else ""
        outcome = after if ended(after) else change
        yield Entry(at=event.at, kind=TimelineKind.ERROR, name="attempt", text=f"{outcome}{code}{reason}")


def _ended(job: Job, at: float, change: JobEvent, state: JobState) -> Iterator[Entry]:
    pin = str((job.child or {}).get("pin", ""))
    digest = short(str((job.child or {}).get("digest", "")))
    match state:
        case JobState.VERIFIED if change is JobEvent.REUSE:
            text = f"reused {digest} ({shown_pin(pin)}): no host was touched"
        case JobState.VERIFIED:
            text = f"verified {digest} ({shown_pin(pin)})"
        case JobState.FAILED | JobState.LOST | JobState.CANCELLED | JobState.SKIPPED:
            text = state
        case _:
            return
    yield Entry(at=at, kind=TimelineKind.END, name="end", text=text)
