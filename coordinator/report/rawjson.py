"""One JSON object per event. Keys are the event's fields; `event` is its name; a place is spread out."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

from coordinator.domain.events import Event, Place
from coordinator.domain.platforms import Platform


def to_json_line(event: Event) -> str:
    """`{"event": "step_line", "platform": "linux/arm64", "host": "pi5", "mode": "native", "text": …}`."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    return json.dumps({"event": name, **_spread(event)}, ensure_ascii=False)


def _spread(value: Event | Place) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if isinstance(item, Place):
            found.update(_spread(item))
        else:
            found[field.name] = _plain(item)
    return found


def _plain(item: object) -> object:
    if isinstance(item, Platform):
        return str(item)
    if isinstance(item, tuple):
        return [_plain(one) for one in item]
    return item
