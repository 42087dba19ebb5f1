"""An agent's answers as values. Answers that break the contract of `agents/README.md` raise LostError `protocol`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from coordinator.domain.causes import Cause, rule
from coordinator.domain.image.platforms import Platform, normalise
from coordinator.errors import ArchloomError, Exit, LostError, RegistryError, UsageError

T = TypeVar("T")
# Error codes of requests that only a defect of the coordinator sends.
_COORDINATOR_DEFECTS = frozenset({"bad_request", "spec_differs", "started"})


class EndState(StrEnum):
    BUILT = "BUILT"
    FAILED = "FAILED"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The agent's greeting.

    `parent` is the pid of the host's process that carries the connection (sshd on a board), `parent_start` its start
    time in clock ticks since boot; `hang_up` takes both. `state` is the agent's state folder.
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
    """A job's result. `code` and `message` are set where it is FAILED or LOST, the image fields where it is BUILT.

    `platform` is the engine's claim about the image; verify compares it with the pushed child.
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
    """A piece of the log, and the byte offset of the next piece."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReceived:
    """A complete context on the host: its entries, the bytes of its files, and how many of these bytes were sent."""

    entries: int
    bytes: int
    received: int


@dataclass(frozen=True, slots=True)
class BasesHeld:
    """How many bases were pulled, and how many the host held already (`kept`)."""

    pulled: int
    kept: int


@dataclass(frozen=True, slots=True)
class HeldImage:
    """The image that a job built: its id in the engine, and the approximate bytes of its archive."""

    image_id: str
    size: int


@dataclass(frozen=True, slots=True)
class BasesLoaded:
    """How many bases were loaded from an archive, and how many the host held already (`kept`)."""

    loaded: int
    kept: int


@dataclass(frozen=True, slots=True)
class Started:
    """The job's detached process and its slot; both 0 where the job was cancelled before it ran."""

    pid: int
    slot: int


@dataclass(frozen=True, slots=True)
class Pushed:
    """The agent's claim about its push; what the broker received is authoritative."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A job with a folder on the host. `state` is SENDING, BUILDING or an EndState, `since` in host epoch seconds."""

    job: str
    state: str
    since: float


class HostBusyError(ArchloomError):
    """Every slot of the host is held: the job waits on the coordinator, not on the host.

    `holder` is the holder of a slot, `since` when it took the slot, in host epoch seconds.
    """

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
    values = field(host, fields, name, list)
    if not all(isinstance(entry, str) for entry in values):
        raise unexpected(host, f"'{name}' is {values!r}, expected names")
    return tuple(values)


def job_entries(host: str, fields: Mapping[str, Any]) -> tuple[JobEntry, ...]:
    entries = field(host, fields, "jobs", list)
    return tuple(
        JobEntry(field(host, entry, "job", str), field(host, entry, "state", str), _number(host, entry, "since"))
        for entry in entries
    )


def outcome(host: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the `ok` member. Raises `failure` of the `error` member where there is one."""
    if "error" in body:
        raise failure(host, field(host, body, "error", dict))
    return field(host, body, "ok", dict)


def failure(host: str, fields: Mapping[str, Any]) -> ArchloomError:
    """Return the exception for an `error` member, by its code: `busy` is HostBusyError, unknown codes are LostError."""
    code, text = field(host, fields, "code", str), field(host, fields, "message", str)
    message = f"host '{host}': {text}"
    if code == "busy":
        holder, since = field(host, fields, "holder", str), _number(host, fields, "since")
        return HostBusyError(message, holder=holder, since=since)
    if code == "refused":
        return RegistryError(message, code=code)
    if code == Cause.CHANGED:
        return UsageError(message, hint=rule(code).hint, code="context_changed")
    if code in _COORDINATOR_DEFECTS:
        return ArchloomError(message, code=code)
    return LostError(message, hint=rule(code).hint, code=code)


def field(host: str, fields: object, name: str, kind: type[T]) -> T:
    """Return the member `name`. Raises LostError `protocol` where it is absent or not of type `kind`."""
    value = fields.get(name) if isinstance(fields, Mapping) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise unexpected(host, f"'{name}' is {value!r}, expected {kind.__name__}")
    return value


def unexpected(host: str, what: str) -> LostError:
    """Return LostError `protocol`: the agent's answer breaks the contract of `agents/README.md`."""
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
