"""An agent's answers as values, checked by pydantic against `agents/README.md`.

The models are strict: nothing is converted, and "5" is no int. Members that a model does not name are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, Field, Strict, TypeAdapter, ValidationError

from coordinator.domain.causes import Cause, rule
from coordinator.domain.image.platforms import Platform, normalise
from coordinator.errors import ArchloomError, Exit, LostError, RegistryError, UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")
# Counts, bytes and process ids. A host that sends another number, such as 10**400, costs its own job and not the run.
Count = Annotated[int, Field(ge=0, lt=2**63)]
# Made at first use: building one takes up to 1 ms.
_ADAPTERS: dict[object, TypeAdapter[Any]] = {}
# pydantic's types of errors whose words name Python's types, and what JSON calls them.
_EXPECTED = {"model_type": "an object", "dict_type": "an object", "list_type": "a list", "tuple_type": "a list"}
# Error codes of requests that only a defect of the coordinator sends.
_COORDINATOR_DEFECTS = frozenset({"bad_request", "started"})


class EndState(StrEnum):
    BUILT = "BUILT"
    FAILED = "FAILED"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


class Hello(BaseModel, strict=True, frozen=True):
    """The agent's greeting.

    `parent` is the pid of the host's process that carries the connection (sshd on a board), `parent_start` its start
    time in clock ticks since boot; `hang_up` takes both. `state` is the agent's state folder.
    """

    agent: str
    python: str
    pid: Count
    parent: Count
    parent_start: Count
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


class LogText(BaseModel, strict=True, frozen=True):
    """A piece of the log, and the byte offset of the next piece."""

    text: str = Field(alias="log")
    offset: Count


class ContextReceived(BaseModel, strict=True, frozen=True):
    """A complete context on the host: its entries, the bytes of its files, and how many files and bytes were sent."""

    entries: Count
    bytes: Count
    files: Count
    received: Count


class BasesHeld(BaseModel, strict=True, frozen=True):
    """How many bases were pulled, and how many the host held already (`kept`)."""

    pulled: Count
    kept: Count


class HeldImage(BaseModel, strict=True, frozen=True):
    """The image that a job built: its id in the engine, and the approximate bytes of its archive."""

    image_id: str
    size: Count


class BasesLoaded(BaseModel, strict=True, frozen=True):
    """How many bases were loaded from an archive, and how many the host held already (`kept`)."""

    loaded: Count
    kept: Count


class Started(BaseModel, strict=True, frozen=True):
    """The job's detached process and its slot; both 0 where the job was cancelled before it ran."""

    pid: Count
    slot: Count


class Pushed(BaseModel, strict=True, frozen=True):
    """The agent's claim about its push; what the broker received is authoritative."""

    digest: str
    size: Count


class JobEntry(BaseModel, strict=True, frozen=True):
    """A job with a folder on the host. `state` is SENDING, BUILDING or an EndState, `since` in host epoch seconds."""

    job: str
    state: str
    since: float

    @property
    def is_running(self) -> bool:
        return self.state == "BUILDING"


class _Result(BaseModel, strict=True, frozen=True):
    state: EndState = Field(strict=False)
    seconds: float
    log_size: Count


class _Error(BaseModel, strict=True, frozen=True):
    code: str
    message: str


class _Holder(BaseModel, strict=True, frozen=True):
    holder: str
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


def ended(host: str, fields: object) -> Ended:
    result = read(host, fields, _Result)
    end = Ended(state=result.state, seconds=result.seconds, log_size=result.log_size)
    if end.state == EndState.CANCELLED:
        return end
    if end.state == EndState.BUILT:
        image = read(host, fields, HeldImage)
        platform = normalise(*(read(host, fields, str, name) for name in ("os", "architecture", "variant")))
        return replace(end, image_id=image.image_id, platform=platform, size=image.size)
    error = read(host, fields, _Error)
    return replace(end, code=error.code, message=error.message)


def outcome(host: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `ok` member. Raises `failure` of the `error` member where there is one."""
    if "error" in body:
        raise failure(host, read(host, body, dict[str, Any], "error"))
    return read(host, body, dict[str, Any], "ok")


def failure(host: str, fields: object) -> ArchloomError:
    """Return the exception for an `error` member, by its code: `busy` is HostBusyError, unknown codes are LostError."""
    error = read(host, fields, _Error)
    code, message = error.code, f"host '{host}': {error.message}"
    if code == "busy":
        busy = read(host, fields, _Holder)
        return HostBusyError(message, holder=busy.holder, since=busy.since)
    if code == Cause.REFUSED:
        return RegistryError(message, code=code)
    if code == Cause.CHANGED:
        return UsageError(message, hint=rule(code).hint, code="context_changed")
    if code in _COORDINATOR_DEFECTS:
        return ArchloomError(message, code=code)
    return LostError(message, hint=rule(code).hint, code=code)


def read(host: str, value: object, kind: type[T], *path: str) -> T:
    """Return what `path`, names of members one in the other, leads to in `value`, as `kind`.

    `kind` is a model or a type of JSON values, such as `list[str]`; `int` is a Count. Raises LostError `protocol`,
    which names the first member that is absent or of another type.
    """
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise unexpected(host, _description(path, error.errors(include_url=False)[0])) from None


def unexpected(host: str, what: str) -> LostError:
    """Return LostError `protocol`: the agent's answer breaks the contract of `agents/README.md`."""
    return LostError(
        f"host '{host}': the agent's reply cannot be read: {what}",
        hint="the agent there and this coordinator are of different versions; run `archloom boards` again",
        code="protocol",
    )


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    if kind not in _ADAPTERS:
        strict: Any = Annotated[Count if kind is int else kind, Strict()]
        _ADAPTERS[kind] = TypeAdapter(strict)
    return _ADAPTERS[kind]


def _description(path: tuple[str, ...], error: ErrorDetails) -> str:
    name = ".".join(map(str, (*path, *error["loc"])))
    if error["type"] == "missing":
        return f"'{name}' is missing"
    expected = _EXPECTED.get(error["type"]) or error["msg"].removeprefix("Input should be ")
    return f"'{name}' is {error['input']!r:.80}, expected {expected}"
