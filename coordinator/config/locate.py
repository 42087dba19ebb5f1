"""Find the inventory file that a command reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coordinator.errors import UsageError

FILE_NAME = "inventory.yaml"
VARIABLE = "ARCHLOOM_INVENTORY"


def find(explicit: str | None, environ: Mapping[str, str], cwd: Path, home: Path) -> Path | None:
    """Return the file named by `-i`, else by ARCHLOOM_INVENTORY, else the first default file that exists, else None.

    Raises UsageError where a named file does not exist: a default file would list other hosts than the user meant.
    """
    if explicit:
        return _named(explicit, "-i", cwd, home)
    if environ.get(VARIABLE):
        return _named(environ[VARIABLE], VARIABLE, cwd, home)
    config = environ.get("XDG_CONFIG_HOME", "")
    folder = Path(config) if config.startswith("/") else home / ".config"
    defaults = (cwd / FILE_NAME, folder / "archloom" / FILE_NAME)
    return next((path for path in defaults if path.exists()), None)


def label(path: Path) -> str:
    """Return the path for messages: relative where it lies in the current folder."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _named(text: str, by: str, cwd: Path, home: Path) -> Path:
    path = home / text[2:] if text.startswith("~/") else cwd / text
    if not path.exists():
        hint = f"{by} names it; leave that out to use ./{FILE_NAME} or ~/.config/archloom/{FILE_NAME}"
        raise UsageError(f"there is no inventory file {text}", hint=hint, code="config")
    return path
