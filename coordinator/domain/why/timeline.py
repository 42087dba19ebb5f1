"""The timeline of a job: its decisions, waits, phases, steps and errors, in order, with durations in seconds.

It is built from the recorded events of the run. A resumed run has recorded some events twice: the log of a build that
the new driver joins is read from its beginning, and jobs that were verified before are reported again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import short
from coordinator.domain.inputs.pins import shown_pin
from coordinator.domain.run.build_log import LineKind, LogLine, StepReader
from coordinator.domain.run.events import (
    CONNECTION_LOST,
    NO_ANSWER,
    PUSH_LOST,
    SENT_SO_FAR,
    Assigned,
    AttemptEnded,
    Event,
    Kept,
    Notice,
    Phase,
    PhaseEnded,
    Preparing,
    RegistryBack,
    RegistryWait,
    Reused,
    RunEnded,
    RunStarted,
    Skipped,
    StepLine,
    TagMoved,
    Verified,
    Waiting,
)
from coordinator.domain.why.entries import Draft, Entry, TimelineKind
from coordinator.domain.why.registry_waits import RegistryWaits

# Steps that are not of the Dockerfile (such as loading the context) and are quicker than this are left out.
_NOTABLE_S = 0.5
_BAD_END_TEXT = {LineKind.ERROR: ": failed", LineKind.CANCELED: ": not finished"}
_POSITION = re.compile(r"\[(?:([^\]]*) )?\d+/\d+\] ")
_FROM = re.compile(r"\A((?:\S+ )?FROM) .*", re.DOTALL)


def timeline(events: Iterable[tuple[float, Event]], platform: Platform) -> tuple[Entry, ...]:
    """Return the entries of this platform's job. `events` are those of the whole run, in order."""
    telling = _TimelineBuilder(platform)
    for at, event in events:
        telling.add(at, event)
    return telling.entries()


def pair_entries(now: Sequence[Entry], before: Sequence[Entry]) -> tuple[tuple[Entry, Entry | None], ...]:
    """Pair each entry with its counterpart in another run: the second wait with the second, a step by instruction."""
    counterparts = dict(_keyed(before))
    return tuple((entry, counterparts.get(key)) for key, entry in _keyed(now))


def _keyed(entries: Sequence[Entry]) -> Iterable[tuple[tuple[TimelineKind, str, int], Entry]]:
    seen: Counter[tuple[TimelineKind, str]] = Counter()
    for entry in entries:
        seen[entry.kind, entry.name] += 1
        yield (entry.kind, entry.name, seen[entry.kind, entry.name]), entry


@dataclass(slots=True)
class _Attempt:
    """The attempt in progress on a host: its phases, its open steps and its ended steps, by step number."""

    phases: dict[str, Draft] = field(default_factory=dict)
    steps: dict[int, Draft] = field(default_factory=dict)
    over: dict[int, Draft] = field(default_factory=dict)
    reader: StepReader = field(default_factory=StepReader)

    def under_way(self) -> list[Draft]:
        """Return the Dockerfile steps that have begun and not ended."""
        return [step for step in self.steps.values() if _POSITION.match(step.text)]


@dataclass(slots=True)
class _TimelineBuilder:
    platform: Platform
    drafts: list[Draft] = field(default_factory=list)
    wait: Draft | None = None
    registry_waits: RegistryWaits = field(default_factory=RegistryWaits)
    attempts: int = 0
    # The attempt that the latest event is about, and the latest one of each host: two may be in progress.
    attempt: _Attempt = field(default_factory=_Attempt)
    by_host: dict[str, _Attempt] = field(default_factory=dict)
    begun: bool = False
    ended: bool = False

    def add(self, at: float, event: Event) -> None:
        match event:
            case RunStarted():
                self._started(at)
            case RunEnded():
                self._close_all(at)
            case Notice() | Preparing() | TagMoved():
                pass
            case RegistryWait() | RegistryBack():
                if self.platform in event.platforms:
                    self._registry(at, event)
            case Waiting() | Skipped() | Reused():
                if event.platform == self.platform:
                    self._of_job(at, event)
            case _:
                if event.place.platform == self.platform:
                    self._on_a_host(at, event)

    def entries(self) -> tuple[Entry, ...]:
        under_way = [step for attempt in self.by_host.values() for step in attempt.under_way()]
        drafts = sorted((*self.drafts, *under_way), key=lambda draft: draft.at)
        return tuple(draft.entry() for draft in drafts)

    def _started(self, at: float) -> None:
        if self.begun and not self.ended:
            self._close_wait(at)
            self._add(at, TimelineKind.NOTE, "resumed", "the run is gone on with")
        self.begun = True

    def _of_job(self, at: float, event: Waiting | Skipped | Reused) -> None:
        self._close_wait(at)
        match event:
            case Waiting(_, reason):
                self.wait = self._add(at, TimelineKind.WAIT, "wait", f"waits: {reason}")
            case Skipped(_, reason):
                self._end(at, f"not built: {reason}")
            case Reused():
                self._end(at, f"reused {short(event.digest)} ({shown_pin(event.pin)}): no host was touched")

    def _on_a_host(
        self, at: float, event: Assigned | Phase | PhaseEnded | StepLine | AttemptEnded | Kept | Verified
    ) -> None:
        self._close_wait(at)
        self.attempt = self.by_host.setdefault(event.place.host, _Attempt())
        match event:
            case Assigned(place):
                self.attempts += 1
                self.attempt = self.by_host[place.host] = _Attempt()
                self._add(at, TimelineKind.NOTE, "attempt", f"attempt {self.attempts} on {place.host} ({place.mode})")
            case Phase(_, name, text):
                self._phase(at, name, text)
            case PhaseEnded(_, name):
                if name in self.attempt.phases:
                    # Measured from the recorded begin: the driver that reports the end may have joined later.
                    self.attempt.phases.pop(name).close(at)
            case StepLine(_, text):
                for line in self.attempt.reader.feed(f"{text}\n"):
                    self._step(at, line)
            case AttemptEnded():
                self._failed(at, event)
                self.attempt = self.by_host[event.place.host] = _Attempt()
            case Kept(place=place, code=code, message=message):
                self._close(at)
                why = f" ({code})" if code else ""
                self._end(at, f"not published{why}: {message}; {place.host} keeps the image")
            case Verified():
                self._close_all(at)
                self._end(at, f"verified {short(event.digest)} in {event.seconds:.1f} s ({shown_pin(event.pin)})")

    def _phase(self, at: float, name: str, text: str) -> None:
        phase = self.attempt.phases.get(name)
        if name in (CONNECTION_LOST, NO_ANSWER):
            self._add(at, TimelineKind.NOTE, "connection", f"{name}: {text}")
        elif phase is None:
            self._open(at, name, text)
        elif name == "build":
            self._joined(at, text)
        elif text.startswith(PUSH_LOST):
            self._cut_off(at, name, phase)
            self._add(at, TimelineKind.ERROR, name, f"{name} {text}")
        elif self.registry_waits.waits and (not text or text.startswith("again")):
            # One of many tries while a registry fails: the last one counts.
            phase.at = at
        elif not text or text.startswith("again"):
            if phase.seconds is None:  # the driver died during this phase
                self._cut_off(at, name, phase)
            self._open(at, name, text)
        elif name == "context" and not text.startswith(SENT_SO_FAR):
            phase.text = f"{name}: {text}"

    def _registry(self, at: float, event: RegistryWait | RegistryBack) -> None:
        if not self.registry_waits.waits:
            for name, phase in list(self.attempt.phases.items()):
                # It failed. What is repeated begins as another phase of this name.
                if phase.seconds is None:
                    self._cut_off(at, name, phase)
                    del self.attempt.phases[name]
        self.drafts += self.registry_waits.add(at, event)

    def _cut_off(self, at: float, name: str, phase: Draft) -> None:
        phase.close(at)
        phase.text = f"{name}: cut off"

    def _joined(self, at: float, text: str) -> None:
        """Handle a build that continued while no coordinator was connected."""
        if text:
            self._add(at, TimelineKind.NOTE, "connection", text)
            return
        # Without text, another driver has joined the build and reads its log from the beginning: drop earlier steps.
        repeated = [*self.attempt.steps.values(), *self.attempt.over.values()]
        self.drafts = [draft for draft in self.drafts if not any(draft is step for step in repeated)]
        self.attempt.steps.clear()
        self.attempt.over.clear()
        self.attempt.reader = StepReader()

    def _open(self, at: float, name: str, text: str) -> None:
        self.attempt.phases[name] = self._add(at, TimelineKind.PHASE, name, f"{name}: {text}" if text else name)

    def _step(self, at: float, line: LogLine) -> None:
        match line.kind:
            case LineKind.STARTED:
                self.attempt.steps[line.number] = Draft(at, TimelineKind.STEP, _named(line.step), line.step)
            case LineKind.DONE | LineKind.CACHED | LineKind.ERROR | LineKind.CANCELED:
                step = self.attempt.steps.pop(line.number, None)
                if step is not None:
                    self._stepped(at, step, line)
                elif line.kind in (LineKind.ERROR, LineKind.CANCELED):
                    self._overturned(at, line)
            case LineKind.RESUMED | LineKind.OUTPUT | LineKind.OTHER:
                pass

    def _stepped(self, at: float, step: Draft, line: LogLine) -> None:
        step.close(at)
        step.cached = line.kind is LineKind.CACHED
        if step.cached:
            step.seconds = None
        elif line.seconds is not None:
            step.seconds = line.seconds
        step.text += _BAD_END_TEXT.get(line.kind, "")
        if line.total or line.kind is LineKind.ERROR or (step.seconds or 0.0) >= _NOTABLE_S:
            self.attempt.over[line.number] = step
            self.drafts.append(step)

    def _overturned(self, at: float, line: LogLine) -> None:
        """Correct a step that an engine reported as CACHED and then ran: how the step ended counts."""
        step = self.attempt.over.get(line.number)
        if step is not None and step.cached:
            step.cached = False
            step.close(at)
            step.text += _BAD_END_TEXT[line.kind]

    def _failed(self, at: float, event: AttemptEnded) -> None:
        self._close(at)
        code = f" ({event.code})" if event.code else ""
        location = f" at {event.step}" if event.step else ""
        reason = f": {event.message}" if event.message not in ("", event.state) else ""
        retry = "; it is tried again" if event.again else ""
        self._add(at, TimelineKind.ERROR, "attempt", f"{event.state}{code}{location}{reason}{retry}")

    def _end(self, at: float, text: str) -> None:
        if not self.ended:
            self._add(at, TimelineKind.END, "end", text)
            self.ended = True

    def _close_all(self, at: float) -> None:
        self._close(at)
        for attempt in self.by_host.values():
            self.attempt = attempt
            self._close(at)

    def _close(self, at: float) -> None:
        """Close everything of the attempt that is still open: the waits, the steps, the phases."""
        self._close_wait(at)
        self.registry_waits.close(at)
        for step in self.attempt.under_way():
            step.close(at)
            step.text += _BAD_END_TEXT[LineKind.CANCELED]
            self.drafts.append(step)
        for phase in self.attempt.phases.values():
            phase.close(at)
        self.attempt.steps.clear()
        self.attempt.phases.clear()

    def _close_wait(self, at: float) -> None:
        if self.wait is not None:
            self.wait.close(at)
            self.wait = None

    def _add(self, at: float, kind: TimelineKind, name: str, text: str) -> Draft:
        draft = Draft(at, kind, name, text)
        self.drafts.append(draft)
        return draft


def _named(title: str) -> str:
    """Return the step's stage and instruction, without its number; FROM without its image, whose digest may change."""
    name = _POSITION.sub(lambda match: f"{match[1]} " if match[1] else "", title, count=1)
    return _FROM.sub(r"\1", name)
