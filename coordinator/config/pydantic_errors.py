"""pydantic's validation errors as problems in archloom's wording, with lines of the document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from coordinator.config.documents import Board, Defaults, Emulator, InventoryDocument, Registry
from coordinator.config.problems import Problem, found
from coordinator.config.suggestions import unknown_key
from coordinator.config.yaml_source import Source

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

_ENTRIES: dict[str, type[BaseModel]] = {"boards": Board, "emulators": Emulator, "registries": Registry}
_EXAMPLES: dict[tuple[str | int, ...], str] = {
    ("defaults",): "{jobs: 2}",
    ("boards",): "{pi5: ssh://pi5}",
    ("emulators",): "{local: local}",
    ("registries",): '{"nas.lan:5000": {http: true}}',
}
# The last part of `loc` where pydantic rejects a key, not its value.
_KEY = "[key]"


def validate(source: Source, data: dict[str, Any]) -> tuple[InventoryDocument, list[Problem]]:
    """Return the document in this data of the source, and its problems.

    Invalid entries are left out of the document, so that later checks can run on the valid ones.
    """
    try:
        return InventoryDocument.model_validate(data), list(source.problems)
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems = [*source.problems, *(_problem(source, detail) for detail in details)]
    return InventoryDocument.model_validate(_without(data, details)), problems


def _problem(source: Source, error: ErrorDetails) -> Problem:
    keys = error["loc"]
    if keys[-1] == _KEY:
        return source.problem(keys[:-1], _sentence(error), at_key=True)
    if error["type"] == "extra_forbidden":
        return source.problem(keys, unknown_key(str(keys[-1]), _known(keys)), at_key=True)
    return source.problem(keys, _sentence(error))


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    example = _EXAMPLES.get(tuple(error["loc"])) or "{http: true}"
    return f"expected a map such as {example}, found {found(error['input'])}"


def _known(keys: Sequence[str | int]) -> list[str]:
    if len(keys) == 1:
        return list(InventoryDocument.model_fields)
    return list(_ENTRIES.get(str(keys[0]), Defaults).model_fields)


def _without(data: dict[str, Any], errors: list[ErrorDetails]) -> dict[str, Any]:
    valid = {key: dict(part) if isinstance(part, dict) else part for key, part in data.items()}
    for error in errors:
        section, *rest = (str(key) for key in error["loc"])
        entries = valid.get(section)
        if rest and isinstance(entries, dict):
            entries.pop(rest[0], None)
        else:
            valid.pop(section, None)
    return valid
