"""The field types of `inventory.yaml`: parser, JSON schema and description of each value.

An absent value is None: its default comes from `defaults:`, else from `domain.hosts.inventory`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from coordinator.config import addresses, parsers
from coordinator.domain.hosts import inventory
from coordinator.domain.image import platforms

_ENGINES = ("auto", "buildx", "docker", "api")
_WAYS = ("tunnel", "direct")
_MOST_JOBS = 64
_PLANNED_ENGINES = {
    "podman": "use a host with Docker",
    "buildah": "use a host with Docker",
    "nerdctl": "use a host with Docker",
}
_PLANNED_STATES = {"maintenance": "write drain", "retired": "write drain, or remove the host"}
_PLANNED_WAYS = {"direct-http": "write via: direct and http: true"}


def _schema(kind: str | list[str], **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


Target = Annotated[
    inventory.Address | None,
    PlainValidator(addresses.target),
    _schema("string", examples=["ssh://pi5", "ssh://pi@192.168.1.21:2222", "pi@192.168.1.21", "pi4.lan", "local"]),
    Field(description="Where the host is. Default: the name of the entry. ~/.ssh/config applies."),
]
User = Annotated[
    str | None,
    PlainValidator(addresses.user),
    _schema(["string", "integer"]),
    Field(description="Login user. Default: what ~/.ssh/config says."),
]
Port = Annotated[
    int | None,
    PlainValidator(partial(parsers.whole, lowest=1, highest=65535)),
    _schema(["integer", "string"], pattern="^[0-9]+$", minimum=1, maximum=65535),
    Field(description="SSH port. Default: what ~/.ssh/config says."),
]
Jobs = Annotated[
    int | None,
    PlainValidator(partial(parsers.whole, lowest=1, highest=_MOST_JOBS)),
    _schema(["integer", "string"], pattern="^[0-9]+$", minimum=1, maximum=_MOST_JOBS),
    Field(description="Builds at the same time. Default: 1."),
]
_Platform = Annotated[platforms.Platform, PlainValidator(parsers.platform)]
_Platforms = Annotated[
    list[_Platform] | None,
    BeforeValidator(parsers.several),
    AfterValidator(parsers.each_once),
    _schema("array", items={"type": "string", "examples": ["linux/arm64", "linux/arm/v7"]}, minItems=1),
]
Pin = Annotated[_Platforms, Field(description="Use the host for these platforms only. Default: all that it can run.")]
Emulate = Annotated[
    _Platforms, Field(description="Platforms to run through QEMU. Default: all that QEMU is registered for.")
]
HostKey = Annotated[
    str | None,
    PlainValidator(addresses.host_key),
    _schema("string", examples=["SHA256:…", "ssh-ed25519 AAAA…"]),
    Field(description="The key the host must show. Default: what known_hosts says."),
]
State = Annotated[
    str | None,
    PlainValidator(partial(parsers.choice, words=list(inventory.HostState), planned=_PLANNED_STATES)),
    _schema("string", enum=list(inventory.HostState)),
    Field(description="drain: finishes its running jobs and gets no new ones. Default: active."),
]
_Use = Annotated[str, PlainValidator(partial(parsers.choice, words=list(inventory.Use)))]
Uses = Annotated[
    list[_Use] | None,
    BeforeValidator(parsers.several),
    _schema("array", items={"type": "string", "enum": list(inventory.Use)}, minItems=1),
    Field(description="build images, run them for a test, or both. Default: decided by its memory and free disk."),
]
ConnectTimeout = Annotated[
    float | None,
    PlainValidator(partial(parsers.duration, shortest=0.1, longest=600)),
    _schema("string", pattern=parsers.DURATION_PATTERN, examples=["5s"]),
    Field(description="How long the host may take to answer. Default: 5s."),
]
ReconnectFor = Annotated[
    float | None,
    PlainValidator(partial(parsers.duration, shortest=0, longest=86400)),
    _schema("string", pattern=parsers.DURATION_PATTERN, examples=["60s"]),
    Field(description="How long a host that a run has lost is waited for. Default: 60s."),
]
MinFree = Annotated[
    float | None,
    PlainValidator(parsers.percent),
    _schema("string", pattern=parsers.PERCENT_PATTERN, examples=["10%"]),
    Field(description="Share of the engine's disk that must stay free. Default: 10%."),
]
KeepBuilt = Annotated[
    float | None,
    PlainValidator(partial(parsers.duration, shortest=0, longest=366 * 86400)),
    _schema("string", pattern=parsers.DURATION_PATTERN, examples=["24h"]),
    Field(description="How long an image that could not be published is kept on the host. Default: 24h."),
]
CacheBudget = Annotated[
    int | None,
    PlainValidator(parsers.size),
    _schema("string", pattern=parsers.SIZE_PATTERN, examples=["20GB"]),
    Field(description="Prune the engine's build cache beyond this. Default: never pruned."),
]
MemoryFloor = Annotated[
    int | None,
    PlainValidator(parsers.size),
    _schema("string", pattern=parsers.SIZE_PATTERN, examples=["100MB"]),
    Field(description="A build is ended where less memory is left. Default: 3%, at least 64MiB and at most 512MiB."),
]
Engine = Annotated[
    str | None,
    PlainValidator(partial(parsers.choice, words=_ENGINES, planned=_PLANNED_ENGINES)),
    _schema("string", enum=list(_ENGINES)),
    Field(
        description="buildx: the plugin. docker: the CLI's own BuildKit. api: without a CLI. Default: auto, the best."
    ),
]
Note = Annotated[
    str | None, PlainValidator(parsers.text), _schema(["string", "integer"]), Field(description="Free text for people.")
]
Http = Annotated[
    bool | None,
    PlainValidator(parsers.flag),
    _schema("boolean"),
    Field(description="Use plain http. Never guessed for a registry on another machine. Default: false."),
]
Ca = Annotated[
    str | None,
    PlainValidator(parsers.text),
    _schema(["string", "integer"]),
    Field(description="PEM file of the CA to trust, relative to the inventory's folder."),
]
Via = Annotated[
    str | None,
    PlainValidator(partial(parsers.choice, words=_WAYS, planned=_PLANNED_WAYS)),
    _schema("string", enum=list(_WAYS)),
    Field(description="tunnel: hosts reach it through archloom. direct: hosts reach it themselves. Default: tunnel."),
]
Pins = Annotated[
    str | None,
    PlainValidator(partial(parsers.choice_with_off, words=list(inventory.Pins))),
    _schema(["string", "boolean"], enum=[*inventory.Pins, False]),
    Field(
        description="How built images are found again. keep: a tag each. store: this machine's store, without tags. "
        "off: never reused. Default: keep."
    ),
]
RegistryPatience = Annotated[
    float | None,
    PlainValidator(partial(parsers.duration, shortest=0, longest=86400)),
    _schema("string", pattern=parsers.DURATION_PATTERN, examples=["5m"]),
    Field(description="How long a run waits for a registry that fails in the middle of it. Default: 5m."),
]
Version = Annotated[
    int,
    PlainValidator(parsers.version),
    _schema("integer", const=1),
    Field(description="Version of this format."),
]
Name = Annotated[str, AfterValidator(addresses.host_name)]
RegistryHost = Annotated[str, AfterValidator(addresses.registry)]
