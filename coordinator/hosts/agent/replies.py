"""What an agent answers, as values. An answer that is not as `agents/README.md` says raises LostError `protocol`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from coordinator.domain.causes import Cause, rule
from coordinator.domain.image.platforms import Platform, normalise
from coordinator.errors import ArchloomError, Exit, LostError, RegistryError, UsageError

T = TypeVar("T")
# Requests that only a defect of the coordinator sends.
_OUR_FAULT = frozenset({"bad_request", "spec_differs", "started"})


class EndState(StrEnum):
    BUILT = "BUILT"
    FAILED = "FAILED"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """`parent` is the process that ends the host's side of the connection, started at `parent_start` (clock ticks).

    `state` is the agent's folder.
    """

    agent: str
    python: str
    pid: int
    parent: int
    parent_start: int
    machine_id: str
    boot_id: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job's result. `code` and `message` where it did not end well; image fields where it is BUILT.

    `platform` is what the engine says of the image: a claim, to be compared with what was pushed.
    """

    state: EndState
    seconds: float
    log_size: int
    code: str = ""
    message: str = ""
    image_id: str = ""
    platform: Platform | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class LogText:
    """A piece of the log, and the byte offset to follow from after it."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReceived:
    """A context that is there: its entries, the bytes of its files, and of these how many had to be sent."""

    entries: int
    bytes: int
    received: int


@dataclass(frozen=True, slots=True)
class BasesHeld:
    """Bases that were pulled, and those the host had."""

    pulled: int
    kept: int


@dataclass(frozen=True, slots=True)
class HeldImage:
    """What a job built: the engine's id of it, and about how many bytes an archive of it has."""

    image_id: str
    size: int


@dataclass(frozen=True, slots=True)
class BasesLoaded:
    """Bases that came in an archive, and those the host had."""

    loaded: int
    kept: int


@dataclass(frozen=True, slots=True)
class Started:
    """The detached process; 0 for both where the job was cancelled before it ran."""

    pid: int
    slot: int


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the agent says it pushed; what the broker saw is what counts."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class JobEntry:
    """`state` is SENDING, BUILDING, or an EndState; `since` the host's epoch seconds."""

    job: str
    state: str
    since: float


class HostBusyError(ArchloomError):
    """Every slot of the host is held: the job waits here, not there. `since` is the host's epoch seconds."""

    exit_code = Exit.LOST

    def __init__(self, message: str, *, holder: str, since: float) -> None:
        super().__init__(message, code="busy")
        self.holder = holder
        self.since = since


def hello(host: str, fields: Mapping[str, Any]) -> Hello:
    return Hello(
        agent=field(host, fields, "agent", str),
        python=field(host, fields, "python", str),
        pid=field(host, fields, "pid", int),
        parent=field(host, fields, "parent", int),
        parent_start=field(host, fields, "parent_start", int),
        machine_id=field(host, fields, "machine_id", str),
        boot_id=field(host, fields, "boot_id", str),
        state=field(host, fields, "state", str),
    )


def ended(host: str, fields: Mapping[str, Any]) -> Ended:
    word = field(host, fields, "state", str)
    if word not in EndState.__members__:
        raise unexpected(host, f"a job ended in state {word!r}")
    state, seconds = EndState(word), _number(host, fields, "seconds")
    log_size = field(host, fields, "log_size", int)
    match state:
        case EndState.BUILT:
            words = (field(host, fields, name, str) for name in ("os", "architecture", "variant"))
            return Ended(
                state=state,
                seconds=seconds,
                log_size=log_size,
                image_id=field(host, fields, "image_id", str),
                platform=normalise(*words),
                size=field(host, fields, "size", int),
            )
        case EndState.FAILED | EndState.LOST:
            code, message = field(host, fields, "code", str), field(host, fields, "message", str)
            return Ended(state=state, seconds=seconds, log_size=log_size, code=code, message=message)
        case EndState.CANCELLED:
            return Ended(state=state, seconds=seconds, log_size=log_size)


def log_text(host: str, event: Mapping[str, Any]) -> LogText:
    return LogText(field(host, event, "log", str), field(host, event, "offset", int))


def held_image(host: str, fields: Mapping[str, Any]) -> HeldImage:
    return HeldImage(field(host, fields, "image_id", str), field(host, fields, "size", int))


def names(host: str, fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = field(host, fields, name, list)
    if not all(isinstance(entry, str) for entry in found):
        raise unexpected(host, f"'{name}' is {found!r}, expected names")
    return tuple(found)


def job_entries(host: str, fields: Mapping[str, Any]) -> tuple[JobEntry, ...]:
    entries = field(host, fields, "jobs", list)
    return tuple(
        JobEntry(field(host, entry, "job", str), field(host, entry, "state", str), _number(host, entry, "since"))
        for entry in entries
    )


def outcome(host: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `ok` member. Raises the error of an answer that has one."""
    if "error" in body:
        raise failure(host, field(host, body, "error", dict))
    return field(host, body, "ok", dict)


def failure(host: str, fields: Mapping[str, Any]) -> ArchloomError:
    """The error that an `error` member means, for whoever asked."""
    code, text = field(host, fields, "code", str), field(host, fields, "message", str)
    message = f"host '{host}': {text}"
    if code == "busy":
        holder, since = field(host, fields, "holder", str), _number(host, fields, "since")
        return HostBusyError(message, holder=holder, since=since)
    if code == "refused":
        return RegistryError(message, code=code)
    if code == Cause.CHANGED:
        return UsageError(message, hint=rule(code).hint, code="context_changed")
    if code in _OUR_FAULT:
        return ArchloomError(message, code=code)
    return LostError(message, hint=rule(code).hint, code=code)


def field(host: str, fields: object, name: str, kind: type[T]) -> T:
    """The member of this type. Raises LostError `protocol` when it is absent or of another type."""
    value = fields.get(name) if isinstance(fields, Mapping) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise unexpected(host, f"'{name}' is {value!r}, expected {kind.__name__}")
    return value


def unexpected(host: str, what: str) -> LostError:
    """The agent's answer is not one of the wire."""
    return LostError(
        f"host '{host}': an answer of the agent cannot be read: {what}",
        hint="the agent there and this coordinator do not fit together; run `archloom boards` again",
        code="protocol",
    )


def _number(host: str, fields: object, name: str) -> float:
    value = fields.get(name) if isinstance(fields, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise unexpected(host, f"'{name}' is {value!r}, expected a number")
    return float(value)
