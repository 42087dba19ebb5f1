"""What a job builds: the `spec` of the wire, validated before anything is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from agents.base.errors import AgentError
from agents.base.fields import field, mapping
from agents.base.json_file import read_object

FORMAT = 1
FILE = "spec.json"
ENGINES = ("buildx", "docker", "api")
# Fields that format 1 did not have from the beginning.
_ADDED = ("dockerfile_apart", "context_key", "has_context", "limits")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_KEY = re.compile(r"[0-9a-f]{16,64}\Z")
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?\Z")
_IMAGE = re.compile(r"archloom/[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


class Base(NamedTuple):
    """A base image: pulled as `repository@digest` through the tunnel, and kept in the engine under `name`."""

    name: str
    repository: str
    digest: str
    platform: str


class Limits(NamedTuple):
    """When the agent ends the build. `memory_floor` in bytes, None for the agent's default, 0 for none.

    `stall_after`: seconds without a line of the log and with an idle host, None where that is no sign of a fault.
    """

    memory_floor: int | None = None
    stall_after: float | None = None


class Spec(NamedTuple):
    """What a job builds. `dockerfile` is the text of the effective Dockerfile; other fields are as on the wire.

    `dockerfile_apart`: a source of the build takes files of any name, so the effective Dockerfile must not be in the
    context that the engine gets.
    """

    platform: str
    engine: str
    dockerfile: str
    dockerfile_path: str
    dockerfile_apart: bool
    stage: str
    build_args: dict[str, str]
    labels: dict[str, str]
    no_cache: bool
    image: str
    bases: tuple[Base, ...]
    context_key: str
    has_context: bool
    limits: Limits

    @property
    def dockerfile_bytes(self) -> bytes:
        """The effective Dockerfile as it is written: it may hold bytes that are not UTF-8."""
        return self.dockerfile.encode("utf-8", "surrogateescape")


def parse_new(data: object) -> Spec:
    """Parse the spec of a job that is to be created, with every field. Raises AgentError `bad_request`."""
    for name in _ADDED:
        if name not in mapping(data, "spec"):
            raise AgentError("bad_request", f"spec has no {name}")
    return parse(data)


def parse(data: object) -> Spec:
    """Parse the spec of a job on disk, which an earlier version may have left. Such a job is only listed and removed.

    Raises AgentError `bad_request` that names the first wrong field.
    """
    fields = mapping(data, "spec")
    if fields.get("format") != FORMAT:
        raise AgentError("bad_request", f"spec.format is {fields.get('format')!r}, this agent reads {FORMAT}")
    engine = field(fields, "engine", str)
    if engine not in ENGINES:
        raise AgentError("bad_request", f"spec.engine is {engine!r}, expected one of {', '.join(ENGINES)}")
    return Spec(
        platform=_matching(fields, "platform", _PLATFORM),
        engine=engine,
        dockerfile=field(fields, "dockerfile", str),
        dockerfile_path=field(fields, "dockerfile_path", str),
        dockerfile_apart=field(fields, "dockerfile_apart", bool) if "dockerfile_apart" in fields else True,
        stage=field(fields, "stage", str),
        build_args=_texts(fields, "build_args"),
        labels=_texts(fields, "labels"),
        no_cache=field(fields, "no_cache", bool),
        image=_matching(fields, "image", _IMAGE),
        bases=tuple(_base(entry) for entry in field(fields, "bases", list)),
        context_key=_matching(fields, "context_key", _KEY) if "context_key" in fields else "",
        has_context=field(fields, "has_context", bool) if "has_context" in fields else True,
        limits=_limits(fields.get("limits", {})),
    )


def read(folder: Path) -> Spec:
    """Return the spec of the job in this folder. Raises AgentError `state` where the file is missing or damaged."""
    try:
        return parse(read_object(folder / FILE))
    except AgentError as error:
        raise AgentError("state", f"{folder / FILE} is damaged: {error.message}") from None


def of_damaged(job: str) -> Spec:
    """Return what the name of a job says of its spec, so that its image can be removed."""
    return of_image("archloom/" + job.replace("-", ":", 1))


def job_of(image: str) -> str:
    """Return the job whose image this is: `7f3a-arm64-1` for `archloom/7f3a:arm64-1`."""
    return image.partition("/")[2].replace(":", "-")


def of_image(image: str) -> Spec:
    """Return a spec that has only an image, so that this can be removed."""
    return Spec("", "api", "", "", True, "", {}, {}, False, image, (), "", False, Limits())  # noqa: FBT003


def _base(data: object) -> Base:
    fields = mapping(data, "spec.bases[]")
    return Base(
        name=field(fields, "name", str),
        repository=field(fields, "repository", str),
        digest=_matching(fields, "digest", _DIGEST),
        platform=_matching(fields, "platform", _PLATFORM),
    )


def _limits(data: object) -> Limits:
    fields = mapping(data, "spec.limits")
    for name in Limits._fields:
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise AgentError("bad_request", f"spec.limits.{name} is {value!r}, expected a number or null")
    return Limits(memory_floor=fields.get("memory_floor"), stall_after=fields.get("stall_after"))


def _matching(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = field(fields, name, str)
    if not pattern.match(value):
        raise AgentError("bad_request", f"{name} is {value!r}, expected {pattern.pattern}")
    return value


def _texts(fields: dict[str, Any], name: str) -> dict[str, str]:
    entries = mapping(fields.get(name), name)
    for key, value in entries.items():
        if not isinstance(value, str):
            raise AgentError("bad_request", f"{name}.{key} is {value!r}, expected str")
    return entries
