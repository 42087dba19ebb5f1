"""An agent's answers as values, checked by pydantic against `agents/README.md`.

The models are strict: nothing is converted, and "5" is no int. Members that a model does not name are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, Strict, TypeAdapter, ValidationError

from coordinator.domain.causes import Cause, rule
from coordinator.domain.image.platforms import Platform, normalise
from coordinator.domain.visible import visible_text
from coordinator.errors import LostError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")
# Counts, bytes and process ids. A host that sends another number, such as 10**400, costs its own job and not the run.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Silence = Annotated[float, Field(allow_inf_nan=False, ge=0)]
_MAX_NAME, _MAX_WORDS = 256, 16_384
# Made at first use: building one takes up to 1 ms.
_ADAPTERS: dict[object, TypeAdapter[Any]] = {}
# pydantic's types of errors whose words name Python's types, and what JSON calls them.
_EXPECTED = {"model_type": "an object", "dict_type": "an object", "list_type": "a list", "tuple_type": "a list"}
_MAX_JOBS = 4096
# What pydantic puts before the words of a ValueError.
_OWN = "Value error, "


def words(text: str) -> str:
    """Return a text for people: a terminal shows it as it is, and it has at most 16 KiB."""
    cut = text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]} …"
    return cut if cut.isprintable() else visible_text(cut)


def _name(text: str) -> str:
    """Return a text that programs compare and store, as it is. Raises ValueError.

    U+FFFD is in no name: it stands for what is no text (`frames.parsed`).
    """
    if len(text) > _MAX_NAME or not text.isprintable() or "\ufffd" in text:
        raise ValueError(f"printable text of at most {_MAX_NAME} characters")
    return text


Words = Annotated[str, AfterValidator(words)]
Name = Annotated[str, AfterValidator(_name)]
# As `agents/README.md`, "Frames".
JobName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")]


class EndState(StrEnum):
    BUILT = "BUILT"
    FAILED = "FAILED"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


class Hello(BaseModel, strict=True, frozen=True):
    """The agent's greeting.

    `parent` is the pid of the host's process that carries the connection (sshd on a board), `parent_start` its start
    time in clock ticks since boot; `hang_up` takes these. `state` is the agent's state folder.
    """

    agent: Name
    python: Name
    pid: Count
    parent: Count
    parent_start: Count
    machine_id: Name
    boot_id: Name
    state: Words


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

    image_id: Name
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

    digest: Name
    size: Count


class Vitals(BaseModel, strict=True, frozen=True):
    """For how many seconds the host's engine and the disk of the agent's folder have not answered; 0 where they do."""

    engine: Silence
    disk: Silence


class JobEntry(BaseModel, strict=True, frozen=True):
    """A job with a folder on the host. `state` is SENDING, BUILDING or an EndState, `since` in host epoch seconds."""

    job: JobName
    state: Name
    since: Finite

    @property
    def is_running(self) -> bool:
        return self.state == "BUILDING"

    @property
    def is_needed(self) -> bool:
        """Whether a run may go on with the job: it is sent, builds, or has an image that is not published yet."""
        return self.state in {"SENDING", "BUILDING", EndState.BUILT}


class _Result(BaseModel, strict=True, frozen=True):
    state: EndState = Field(strict=False)
    seconds: Finite
    log_size: Count


class _Platform(BaseModel, strict=True, frozen=True):
    os: Name
    architecture: Name
    variant: Name


class _Failure(BaseModel, strict=True, frozen=True):
    code: Name
    message: Words


def ended(host: str, fields: object) -> Ended:
    """Return a job's result, whatever its code. Raises LostError `protocol`."""
    result = read(host, fields, _Result)
    end = Ended(state=result.state, seconds=result.seconds, log_size=result.log_size)
    if end.state == EndState.CANCELLED:
        return end
    if end.state == EndState.BUILT:
        image = read(host, fields, HeldImage)
        platform = read(host, fields, _Platform)
        made_for = normalise(platform.os, platform.architecture, platform.variant)
        return replace(end, image_id=image.image_id, platform=made_for, size=image.size)
    error = read(host, fields, _Failure)
    return replace(end, code=error.code, message=error.message)


def jobs(host: str, fields: object) -> tuple[JobEntry, ...]:
    """Return the jobs that a host has, at most 4096. Raises LostError `protocol`."""
    entries = read(host, fields, list[JobEntry], "jobs")
    if len(entries) > _MAX_JOBS:
        raise unexpected(host, f"it has {len(entries)} jobs, more than {_MAX_JOBS}")
    return tuple(entries)


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
        hint=rule(Cause.PROTOCOL).hint,
        code=Cause.PROTOCOL,
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
    expected = _EXPECTED.get(error["type"]) or error["msg"].removeprefix("Input should be ").removeprefix(_OWN)
    return f"'{name}' is {error['input']!r:.80}, expected {expected}"
