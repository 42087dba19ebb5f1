"""Removes an engine's copies of context folders whose names are no longer used, each as large as its context.

All such records of a build cache look alike, and most are other people's. So records count as the agent's only where as
many appeared during a build as its log says were copied, and the build made the engine copy a folder of a new name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from agents.base import files
from agents.base.errors import AgentError
from agents.base.json_file import read_object, write_object
from agents.base.locks import locked
from agents.engine.build_cache import prune_engine
from agents.engine.engine_api import EngineSocket
from agents.job.context_places import DROPPED, LOCK, RECORDS, ROOT

_KINDS = ("context", "dockerfile")
_LOG_BYTES = 65536
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")


class Copied(NamedTuple):
    """What a build had the engine copy between these times, in epoch seconds: how often, by kind."""

    began: float
    ended: float
    times: Mapping[str, int]


def read_log(log: Path, began: float, ended: float) -> Copied:
    """Return what the beginning of a build's log says was copied."""
    with log.open("rb") as file:
        text = file.read(_LOG_BYTES).decode("utf-8", "replace")
    times = {kind: len(re.findall(rf"(?m)^#\d+ transferring {kind}: .*done$", text)) for kind in _KINDS}
    return Copied(began, ended, times)


def settle(engine: EngineSocket, context: Path, copied: Copied) -> None:
    """Note which records a build of this folder made, and remove those of the folder's earlier names.

    A record that is in use stays, and is tried again after the next such build. Raises AgentError `engine`.
    """
    place = context.parent
    root = place.parent.parent
    if root.name != ROOT:
        return
    known = read_object(place / RECORDS)
    if known.get("name") != context.name:
        # Asked once per name: an engine may take long to measure its images and volumes for this answer.
        own = _appeared(engine.call("GET", "/system/df", {"type": "build-cache"}), copied)
        with locked(root, LOCK):
            _drop(root, known)
            write_object(place / RECORDS, {"name": context.name, "ids": own})
    _remove_dropped(engine, root)


def _remove_dropped(engine: EngineSocket, root: Path) -> None:
    path = root / DROPPED
    with locked(root, LOCK):
        dropped = _listed(path)
    if not dropped:
        return
    for number in dropped:
        with suppress(AgentError):
            prune_engine(engine, {"filters": json.dumps({"id": {number: True}})})
    left = {record.get("ID") for record in _records(engine.call("GET", "/system/df", {"type": "build-cache"}))}
    with locked(root, LOCK):
        # The list may have grown meanwhile.
        kept = [number for number in _listed(path) if number in left or number not in dropped]
        partial = path.with_name(f".{DROPPED}")
        partial.write_text("".join(f"{number}\n" for number in kept), encoding="ascii")
        partial.replace(path)


def _listed(path: Path) -> list[str]:
    return (files.read(path) or b"").decode("ascii", "replace").split()


def _records(usage: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    return (usage.get("BuildCache") or []) if isinstance(usage, dict) else []


def _drop(root: Path, known: Mapping[str, Any]) -> None:
    with (root / DROPPED).open("a", encoding="ascii") as file:
        file.writelines(f"{number}\n" for number in known.get("ids", ()))


def _appeared(usage: Any, copied: Copied) -> list[str]:  # noqa: ANN401 - JSON
    """Return the ids of the build's own records; none where another build made such records at the same time."""
    found: list[str] = []
    for kind, times in copied.times.items():
        made = [record["ID"] for record in _records(usage) if _is_made(record, kind, copied)]
        if len(made) != times:
            return []
        found += made
    return found


def _is_made(record: dict[str, Any], kind: str, copied: Copied) -> bool:
    return (
        record.get("Type") == "source.local"
        and record.get("Description") == f"local source for {kind}"
        # To the fraction of a second: the build before may have ended in this very second.
        and copied.began <= _time(str(record.get("CreatedAt"))) <= copied.ended
    )


def _time(text: str) -> float:
    """Return the time in epoch seconds; 0 where it cannot be read."""
    match = _TIME.match(text)
    if match is None:
        return 0.0
    # Python before 3.11 reads neither Z nor nanoseconds.
    moment = datetime.fromisoformat(match[1] + ("+00:00" if match[3] == "Z" else match[3]))
    return moment.astimezone(timezone.utc).timestamp() + float(match[2] or 0)
