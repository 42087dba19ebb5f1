"""Reading JSON objects that came over the wire: every field is there and of its type, or the request is refused."""

from __future__ import annotations

from typing import Any, TypeVar

from agents.base.errors import AgentError

T = TypeVar("T")


def mapping(value: object, name: str) -> dict[str, Any]:
    """`value` as a JSON object. Raises AgentError `bad_request` otherwise."""
    if not isinstance(value, dict):
        raise AgentError("bad_request", f"{name} is {value!r}, expected an object")
    return value


def field(fields: dict[str, Any], name: str, kind: type[T]) -> T:
    """The field of this type. Raises AgentError `bad_request` when it is absent or of another type."""
    value = fields.get(name)
    # JSON's true is an int to Python.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise AgentError("bad_request", f"{name} is {value!r}, expected {kind.__name__}")
    return value
