"""JSON objects in files that several processes read and one at a time writes: each is whole, or missing."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.base import files


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in this file; an empty one where there is none, or none that is whole."""
    try:
        content = json.loads(files.read(path) or b"")
    except (ValueError, RecursionError):
        return {}  # not written yet, or cut by a power failure
    return content if isinstance(content, dict) else {}


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write the object, in place of an earlier one. Not flushed: a power failure may cut it. Raises OSError."""
    # A name of its own: two threads or processes may write at the same time.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        partial.write_text(json.dumps(content), encoding="utf-8")
        files.move(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
