"""The control channel: answers requests from stdin, each in its own thread, until stdin ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from agents.base import process, slots
from agents.base.errors import AgentError
from agents.base.failures import explain
from agents.base.fields import field
from agents.base.state import VERSION_FILE
from agents.context.cache_gc import opened
from agents.context.enclosed import receive_enclosed
from agents.context.receive import receive_empty
from agents.job import cancel, engine_facts, spec
from agents.job.engine_facts import EngineFacts
from agents.job.follow import follow
from agents.job.store import Discard, Jobs, has_arrived
from agents.server import start
from agents.server.fork_server import ForkServer
from agents.server.sweep import own_folder, sweep
from agents.server.vitals import Vitals, Watch, read_disk
from agents.wire import frames

_SHARED_SLOTS = Path("/run/lock")
# How long a cancelled pull or push may take to end: a push must remove its names from the engine.
_CANCEL_TIMEOUT_S = 5.0
# How long an operation may take to finish after the channel has ended; 0 for operations not listed. Killing a cancelled
# job may take 15 s, and before that `forget` waits for the job's pulls and pushes to end.
_FINISH_TIMEOUTS_S = {
    "create": 20.0,
    "context": 5.0,
    "start": 20.0,
    "cancel": 20.0,
    "forget": 20.0,
    "pull": _CANCEL_TIMEOUT_S,
    "push": _CANCEL_TIMEOUT_S,
}

_SWEEP_TIMEOUT_S = 5.0

Fields = dict[str, Any]
Emit = Callable[[Fields], None]


class Pull(Protocol):
    """Pull the bases of the spec. `cancelled` makes it raise AgentError soon.

    `progress` gets a line now and then; an empty one says no more than that the engine is at work.
    """

    def __call__(
        self, spec: spec.Spec, port: int, secret: str, progress: Callable[[str], None], cancelled: threading.Event
    ) -> Fields: ...


class Push(Protocol):
    """Push the job's image. `progress` gets the bytes done and the bytes in total."""

    def __call__(
        self,
        spec: spec.Spec,
        port: int,
        repository: str,
        tag: str,
        secret: str,
        progress: Callable[[int, int], None],
        cancelled: threading.Event,
    ) -> Fields: ...


class Save(Protocol):
    """Send the job's image as an archive: `begin` gets the first answer, `emit` the pieces. Returns the total bytes."""

    def __call__(self, spec: spec.Spec, begin: Callable[[Fields], None], emit: Callable[[bytes], None]) -> int: ...


class Operations(NamedTuple):
    """The functions that do the channels' work. `job_command` starts the detached process, without its arguments.

    `ping_engine` returns once the engine has answered.
    """

    observe: Callable[[], Fields]
    engine: Callable[[], EngineFacts]
    pull: Pull
    push: Push
    discard: Discard
    lacking: Callable[[spec.Spec], list[str]]
    save: Save
    load: Callable[[spec.Spec, Iterable[bytes]], Fields]
    prune: Callable[[int], int]
    remove_leaked: Callable[[], object]
    job_command: Sequence[str]
    ping_engine: Callable[[], None]
    shared_slots: Path = _SHARED_SLOTS


class Server:
    """Answers requests, each in its own thread."""

    def __init__(
        self, state: Path, operations: Operations, replies: frames.Replies, fork_server: ForkServer | None = None
    ) -> None:
        self._state = state
        self._jobs = Jobs(state)
        self._operations = operations
        self._replies = replies
        self._fork_server = fork_server
        self._stop = threading.Event()
        # Guards `_transfers`: the running pulls and pushes of each job. Notified when a job's last one has ended.
        self._transfers_changed = threading.Condition()
        self._transfers: dict[str, list[threading.Event]] = {}
        self._swept = threading.Event()
        self._answering_lock = threading.Lock()
        self._answering: list[tuple[threading.Thread, float]] = []
        disk = partial(read_disk, str(state / VERSION_FILE))
        self._vitals = Vitals(engine=Watch(operations.ping_engine), disk=Watch(disk))

    def run(self, stream: BinaryIO) -> None:
        """Answer requests until the stream ends. Running pulls and pushes are then cancelled; jobs continue."""
        for request in frames.requests(stream, lambda error: self._replies.send(None, frames.failure(error))):
            if request.op == "ping":
                # By this thread itself: it never waits for anything but requests.
                self._reply(request, {"ok": self._vitals.read()})
            else:
                self._run_beside(partial(self._answer, request), _FINISH_TIMEOUTS_S.get(request.op, 0.0))
        self._finish()

    def _run_beside(self, work: Callable[[], None], finish: float) -> None:
        """Run this in a thread, which has so many seconds to finish after the channel has ended."""
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        with self._answering_lock:
            self._answering = [entry for entry in self._answering if entry[0].is_alive()]
            self._answering.append((thread, finish))

    def _finish(self) -> None:
        ended = time.monotonic()
        self._stop.set()
        with self._transfers_changed:
            for event in (event for events in self._transfers.values() for event in events):
                event.set()
        for thread, seconds in self._answering:
            thread.join(max(0.0, ended + seconds - time.monotonic()))

    def _answer(self, request: frames.Request) -> None:
        def emit(event: Fields) -> None:
            self._replies.send(request.id, {"event": event})

        self._reply(request, self._outcome(request, emit))

    def _reply(self, request: frames.Request, body: Fields) -> None:
        # The coordinator is gone. `run` handles that when stdin ends.
        with suppress(BrokenPipeError):
            self._replies.send(request.id, body)

    def _outcome(self, request: frames.Request, emit: Emit) -> Fields:
        try:
            return {"ok": self._perform(request, emit)}
        except Exception as error:  # noqa: BLE001 - the boundary: a request always gets an answer
            return frames.failure(explain(error, self._state))

    def _perform(self, request: frames.Request, emit: Emit) -> Fields:
        operations: dict[str, Callable[[Fields, Emit], Fields]] = {
            "probe": self._probe,
            "create": self._create,
            "context": self._context,
            "lacking": self._lacking,
            "pull": self._pull,
            "start": self._start,
            "follow": self._follow,
            "push": self._push,
            "cancel": self._cancel,
            "forget": self._forget,
            "jobs": self._list,
            "prune": self._prune,
            "hang_up": self._hang_up,
        }
        operation = operations.get(request.op)
        if operation is None:
            raise AgentError("bad_request", f"unknown operation '{request.op}'; known: {', '.join(operations)}")
        return operation(request.parameters, emit)

    def _probe(self, _fields: Fields, _emit: Emit) -> Fields:
        return self._operations.observe()

    def _create(self, fields: Fields, _emit: Emit) -> Fields:
        job = field(fields, "job", str)
        self._jobs.create(job, fields.get("spec"))
        folder = self._jobs.folder(job)
        wanted = spec.read(folder)
        if not wanted.has_context and not has_arrived(folder):
            with opened(self._state) as objects:
                receive_empty(folder, wanted.context_key, objects)
        return {}

    def _context(self, fields: Fields, _emit: Emit) -> Fields:
        folder = self._jobs.folder(field(fields, "job", str))
        with opened(self._state) as objects:
            return receive_enclosed(folder, spec.read(folder).context_key, fields, objects)._asdict()

    def _lacking(self, fields: Fields, _emit: Emit) -> Fields:
        return {"bases": self._operations.lacking(spec.read(self._jobs.folder(field(fields, "job", str))))}

    def _pull(self, fields: Fields, emit: Emit) -> Fields:
        job = field(fields, "job", str)
        wanted = spec.read(self._jobs.folder(job))
        beats = count(1)
        with self._transferring(job) as cancelled:
            try:
                return self._operations.pull(
                    wanted,
                    field(fields, "port", int),
                    field(fields, "secret", str),
                    lambda text: emit({"progress": text} if text else {"at_work": next(beats)}),
                    cancelled,
                )
            finally:
                # Another connection may have forgotten the job: this one may be what is left of a broken one.
                self._jobs.settle(job, wanted, self._operations.discard)

    def _start(self, fields: Fields, _emit: Emit) -> Fields:
        holder, count = field(fields, "holder", str), field(fields, "slots", int)
        if count < 1:
            raise AgentError("bad_request", f"slots is {count}, expected 1 or more")

        folder = self._jobs.folder(field(fields, "job", str))

        def take_slot() -> slots.Slot:
            facts = self._operations.engine()
            engine_facts.write(folder, facts)
            return slots.take(self._operations.shared_slots, self._state, facts.id, count, holder)

        return start.start(folder, self._fork_server, self._operations.job_command, take_slot)

    def _follow(self, fields: Fields, emit: Emit) -> Fields:
        folder, offset = self._jobs.folder(field(fields, "job", str)), field(fields, "offset", int)
        if offset < 0:
            raise AgentError("bad_request", f"offset is {offset}, expected 0 or more")
        result = follow(folder, offset, lambda text, after: emit({"log": text, "offset": after}), self._stop)
        if result is None:
            raise AgentError("cancelled", "the channel ended")
        return result

    def _push(self, fields: Fields, emit: Emit) -> Fields:
        job = field(fields, "job", str)
        with self._transferring(job) as cancelled:
            return self._operations.push(
                spec.read(self._jobs.folder(job)),
                field(fields, "port", int),
                field(fields, "repository", str),
                field(fields, "tag", str),
                field(fields, "secret", str),
                lambda done, total: emit({"progress": {"done": done, "total": total}}),
                cancelled,
            )

    def _cancel(self, fields: Fields, _emit: Emit) -> Fields:
        job = field(fields, "job", str)
        folder = self._jobs.folder(job)
        self._cancel_transfers(job)
        return cancel.cancel(folder)

    def _forget(self, fields: Fields, _emit: Emit) -> Fields:
        job = field(fields, "job", str)
        self._cancel_transfers(job)
        self._await_transfers(job)
        self._jobs.forget(job, self._operations.discard)
        return {}

    def _list(self, _fields: Fields, _emit: Emit) -> Fields:
        # A run asks this of each host that it uses, so whatever an earlier one has left is gone after the next.
        if not self._swept.is_set():
            self._swept.set()
            self._run_beside(self._sweep, _SWEEP_TIMEOUT_S)
        return {"jobs": self._jobs.entries()}

    def _sweep(self) -> None:
        sweep(self._state, own_folder(), self._operations.discard, self._operations.remove_leaked)

    def _prune(self, fields: Fields, _emit: Emit) -> Fields:
        budget = field(fields, "budget", int)
        if budget < 1:
            # To docker 0 is no limit, and everything goes.
            raise AgentError("bad_request", f"budget is {budget}, expected 1 or more")
        if any(entry["state"] == "BUILDING" for entry in self._jobs.entries()):
            return {"freed": 0}
        return {"freed": self._operations.prune(budget)}

    def _hang_up(self, fields: Fields, _emit: Emit) -> Fields:
        process.hang_up(*(field(fields, name, int) for name in ("pid", "start", "agent")))
        return {}

    @contextmanager
    def _transferring(self, job: str) -> Iterator[threading.Event]:
        """Register a pull or push of the job. Yield the event that tells it to end.

        `cancel`, `forget` and the end of the channel set the event.
        """
        cancelled = threading.Event()
        with self._transfers_changed:
            self._transfers.setdefault(job, []).append(cancelled)
        if self._stop.is_set():
            cancelled.set()
        try:
            yield cancelled
        finally:
            with self._transfers_changed:
                self._transfers[job].remove(cancelled)
                if not self._transfers[job]:
                    del self._transfers[job]
                    self._transfers_changed.notify_all()

    def _cancel_transfers(self, job: str) -> None:
        with self._transfers_changed:
            for event in self._transfers.get(job, []):
                event.set()

    def _await_transfers(self, job: str) -> None:
        """Wait until no pull or push of the job runs that could name what is to be discarded.

        Raises AgentError `engine` after 5 s.
        """
        with self._transfers_changed:
            if not self._transfers_changed.wait_for(lambda: job not in self._transfers, _CANCEL_TIMEOUT_S):
                message = (
                    f"a pull or push of job '{job}' was cancelled and has not ended after {_CANCEL_TIMEOUT_S:.0f} s"
                )
                raise AgentError("engine", message)
