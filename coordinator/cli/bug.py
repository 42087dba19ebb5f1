"""Report an unexpected exception: one line for the user, a file with the traceback for the bug report."""

from __future__ import annotations

import os
import platform
import tempfile
import traceback
from pathlib import Path

from coordinator import __version__
from coordinator.errors import ArchloomError
from coordinator.state.logs import state_folder
from coordinator.store.folders import private_folder


def bug(error: BaseException) -> ArchloomError:
    """Return the error to show. Write its traceback below the state folder, else to the temporary folder.

    The file holds code and messages, never the values of variables or the command line: those may contain secrets.
    """
    folder = state_folder(os.environ, Path.home()) / "bugs"
    try:
        private_folder(folder)
        path = _written(folder, error)
    except OSError:
        path = _written(Path(tempfile.gettempdir()), error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return ArchloomError(f"bug: {text}", hint=f"please report it, with {path}", code="bug")


def _written(folder: Path, error: BaseException) -> Path:
    handle, name = tempfile.mkstemp(".txt", "archloom-", folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"archloom {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n")
        file.writelines(traceback.format_exception(error))
    return Path(name)
