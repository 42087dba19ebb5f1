"""The pydantic models of `inventory.yaml`. Its JSON schema is generated from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema

from coordinator.config import addresses, parsers
from coordinator.config.fields import (
    Ca,
    CacheBudget,
    ConnectTimeout,
    Emulate,
    Engine,
    HostKey,
    Http,
    Jobs,
    KeepBuilt,
    MemoryFloor,
    MinFree,
    Name,
    Note,
    Pin,
    Pins,
    Port,
    ReconnectFor,
    RegistryHost,
    RegistryPatience,
    State,
    Target,
    User,
    Uses,
    Version,
    Via,
)
from coordinator.config.problems import found

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema, core_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_CONFIG = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _entry(value: object) -> object:
    match value:
        case None:
            return {}
        case str():
            return {"host": value}
        case dict():
            return value
        case _:
            raise ValueError(f"expected a target such as ssh://pi5, or a map, found {found(value)}")


def _or_nothing(shape: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [{"type": "null"}, shape]}


def _or_target(shape: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [{"type": "null"}, {"type": "string", "description": "The target alone."}, shape]}


def _section(names: str, description: str) -> Any:  # noqa: ANN401 - pydantic's own type for what Field returns
    return Field(
        default={},
        description=description,
        json_schema_extra={"type": ["object", "null"], "propertyNames": {"pattern": names}},
    )


def _names_its_login_once(host: Board | Emulator) -> None:
    target = host.host
    if target is None:
        return
    for key, given, inside in (("user", host.user, target.user), ("port", host.port, target.port)):
        if given and target.is_local:
            raise ValueError(f"local is this machine, which has no {key}: — remove it")
        if given and inside:
            raise ValueError(f"the {key} is given twice: {inside} in host:, {given} in {key}:")


class Defaults(BaseModel):
    """Defaults for every host; its entry overrides them."""

    model_config = _CONFIG

    user: User = None
    port: Port = None
    jobs: Jobs = None
    connect_timeout: ConnectTimeout = None
    reconnect_for: ReconnectFor = None
    min_free: MinFree = None
    keep_built: KeepBuilt = None
    cache_budget: CacheBudget = None
    memory_floor: MemoryFloor = None
    engine: Engine = None

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, value: object) -> object:
        return parsers.or_empty(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _or_nothing(handler(core))


class Board(BaseModel):
    """A host that never emulates: a target, nothing (the name is the target), or a map."""

    model_config = _CONFIG

    host: Target = None
    user: User = None
    port: Port = None
    jobs: Jobs = None
    platforms: Pin = None
    host_key: HostKey = None
    state: State = None
    use: Uses = None
    connect_timeout: ConnectTimeout = None
    reconnect_for: ReconnectFor = None
    min_free: MinFree = None
    keep_built: KeepBuilt = None
    cache_budget: CacheBudget = None
    memory_floor: MemoryFloor = None
    engine: Engine = None
    note: Note = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        return _entry(value)

    @model_validator(mode="after")
    def _one_login(self) -> Board:
        _names_its_login_once(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _or_target(handler(core))


class Emulator(BaseModel):
    """A host that may also run foreign platforms through QEMU. Written like a board."""

    model_config = _CONFIG

    host: Target = None
    user: User = None
    port: Port = None
    jobs: Jobs = None
    platforms: Pin = None
    emulate: Emulate = None
    host_key: HostKey = None
    state: State = None
    use: Uses = None
    connect_timeout: ConnectTimeout = None
    reconnect_for: ReconnectFor = None
    min_free: MinFree = None
    keep_built: KeepBuilt = None
    cache_budget: CacheBudget = None
    memory_floor: MemoryFloor = None
    engine: Engine = None
    note: Note = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        return _entry(value)

    @model_validator(mode="after")
    def _one_login(self) -> Emulator:
        _names_its_login_once(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _or_target(handler(core))


class Registry(BaseModel):
    """How to reach one registry, and how to pin images in it. Without an entry: https, plain http only for loopback."""

    model_config = _CONFIG

    http: Http = None
    ca: Ca = None
    via: Via = None
    pins: Pins = None

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, value: object) -> object:
        return parsers.or_empty(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _or_nothing(handler(core))

    @model_validator(mode="after")
    def _one_way_to_trust(self) -> Registry:
        if self.http and self.ca:
            raise ValueError("http: true has no certificate to check — remove ca: or http:")
        return self


_OrEmpty = BeforeValidator(parsers.or_empty)


class InventoryDocument(BaseModel):
    """Hosts and registries archloom may use. Keys that begin with `x-` are ignored: a place for YAML anchors."""

    model_config = ConfigDict(
        **_CONFIG, title="archloom inventory", json_schema_extra={"patternProperties": {"^x-": True}}
    )

    version: Version = 1
    defaults: Defaults = Field(default=Defaults(), description="Defaults for every host; its entry overrides them.")
    boards: Annotated[dict[Name, Board], _OrEmpty] = _section(
        addresses.NAME_PATTERN, "Hosts that never emulate, by name."
    )
    emulators: Annotated[dict[Name, Emulator], _OrEmpty] = _section(
        addresses.NAME_PATTERN, "Hosts that may run foreign platforms through QEMU, by name."
    )
    registries: Annotated[dict[RegistryHost, Registry], _OrEmpty] = _section(
        addresses.REGISTRY_PATTERN, "How to reach a registry, by host[:port]."
    )
    registry_patience: RegistryPatience = None

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: part for key, part in value.items() if not key.startswith("x-")}


class _Plain(GenerateJsonSchema):
    """Omits titles and null defaults, which carry no information."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `inventory.yaml`, including the short forms of entries."""
    return {"$schema": DIALECT, **InventoryDocument.model_json_schema(schema_generator=_Plain)}
