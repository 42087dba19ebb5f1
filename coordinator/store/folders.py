"""The folders of archloom's state. They are private: they hold build arguments and build logs."""

from __future__ import annotations

from pathlib import Path


def private_folder(path: Path) -> None:
    """Create the folder and its missing parents with mode 0700. Existing folders stay unchanged. Raises OSError.

    `Path.mkdir(parents=True)` would apply the mode to the last folder only.
    """
    if not path.is_dir():
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
