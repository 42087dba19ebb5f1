"""Read fields of JSON objects from the wire. A missing field, or one of another type, makes the request invalid."""

from __future__ import annotations

from typing import Any, TypeVar

from agents.base.errors import AgentError

T = TypeVar("T")


def mapping(value: object, name: str) -> dict[str, Any]:
    """Return `value` as a JSON object. Raises AgentError `bad_request` where it is not one."""
    if not isinstance(value, dict):
        raise AgentError("bad_request", f"{name} is {value!r}, expected an object")
    return value


def field(fields: dict[str, Any], name: str, kind: type[T]) -> T:
    """Return the field `name`. Raises AgentError `bad_request` where it is missing or not of type `kind`."""
    value = fields.get(name)
    # In Python bool is a subclass of int: JSON's true must not pass as a number.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise AgentError("bad_request", f"{name} is {value!r}, expected {kind.__name__}")
    return value
