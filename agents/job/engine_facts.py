"""What the control channel knows of this host's engine, passed to a job's process in the job's folder.

An engine starts programs to answer `GET /info` and `GET /version` (Docker 20.10: runc and docker-init, both times).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agents.base.json_file import read_object, write_object

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
    write_object(folder / FILE, facts._asdict())


def read(folder: Path) -> EngineFacts | None:
    """Return the facts in the job's folder; None without such a file, or where it is damaged."""
    fields = read_object(folder / FILE)
    try:
        return EngineFacts(**{**fields, "folders": tuple(fields["folders"])})
    except (KeyError, TypeError):
        return None
