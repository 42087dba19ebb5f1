"""One JSON object per event. Its keys are the event's fields; `event` is its name; a `Place` is flattened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from coordinator.domain.image.platforms import Mode, Platform, parse
from coordinator.domain.run.events import Event, Place
from coordinator.errors import UsageError


def to_json_line(event: Event, at: float) -> str:
    """Return `{"event": "step_line", "at": 1790000000.123, "platform": "linux/arm64", "host": "pi5", …}`.

    `at` is in epoch seconds.
    """
    return json.dumps({"event": _name(type(event)), "at": round(at, 3), **_spread(event)}, ensure_ascii=False)


def from_json_line(line: str | bytes) -> tuple[float, Event] | None:
    """Return the time and the event of a line.

    `None` for an event or a value of a newer version, and for a truncated line.
    """
    try:
        document = json.loads(line)
        kind, hints = _kinds()[document["event"]]
        return float(document["at"]), kind(**_gathered(hints, document))
    except (ValueError, TypeError, KeyError, AttributeError, UsageError):
        return None


def _name(kind: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _spread(value: Event | Place) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if isinstance(item, Place):
            document.update(_spread(item))
        else:
            document[field.name] = _plain(item)
    return document


def _plain(item: object) -> object:
    if isinstance(item, Platform):
        return str(item)
    if isinstance(item, tuple):
        return [_plain(part) for part in item]
    if isinstance(item, Mapping):
        return dict(item)
    return item


@cache
def _kinds() -> Mapping[str, tuple[type[Any], Mapping[str, Any]]]:
    """Return every event class by its event name, with the types of its fields."""
    return {_name(kind): (kind, get_type_hints(kind)) for kind in get_args(Event)}


@cache
def _of_place() -> Mapping[str, Any]:
    return get_type_hints(Place)


def _gathered(hints: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known fields. A missing field gets its default; an unknown key is ignored."""
    values = {name: _value(hint, found[name]) for name, hint in hints.items() if name in found}
    if Place in hints.values():
        values["place"] = Place(**_gathered(_of_place(), found))
    return values


def _value(hint: Any, item: Any) -> Any:  # noqa: ANN401 - JSON, and a type from an annotation
    if hint is Platform:
        return parse(item)
    if hint is Mode:
        return Mode(item)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], part) for part in item)
    if hint is float and type(item) is int:
        return float(item)
    if not isinstance(item, get_origin(hint) or hint):
        raise TypeError(f"{item!r} is no {hint}")
    return item
