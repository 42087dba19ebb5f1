"""What the control channel knows of this host's engine, passed to a job's process in the job's folder.

An engine starts programs to answer `GET /info` and `GET /version` (Docker 20.10: runc and docker-init, both times).
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FILE = "engine.json"


class EngineFacts(NamedTuple):
    """One engine. `folders` are those it writes to; `least` and `most` the oldest and the newest API it accepts."""

    id: str
    architecture: str
    least: str
    most: str
    folders: tuple[str, ...]


def write(folder: Path, facts: EngineFacts) -> None:
    """Write the facts into the job's folder, before its process is started. They need not survive a power cut."""
    (folder / FILE).write_text(json.dumps(facts._asdict()), encoding="utf-8")


def read(folder: Path) -> EngineFacts | None:
    """Return the facts in the job's folder; None without such a file."""
    with suppress(FileNotFoundError):
        fields = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return EngineFacts(**{**fields, "folders": tuple(fields["folders"])})
    return None
