"""The folders archloom keeps its state in: what was built, with which arguments, and what it printed is its user's."""

from __future__ import annotations

from pathlib import Path


def private_folder(path: Path) -> None:
    """Makes the folder and those above it that are lacking, each for its user alone. Those there are stay as they are.

    `Path.mkdir` gives its mode to the last one only. Raises OSError.
    """
    if not path.is_dir():
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
