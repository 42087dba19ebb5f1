"""What the docker command lines said of themselves, kept until one of the files they come from changes.

To print a version takes a program of 60 MB a third of a second on a small board, and each plugin that `docker info`
lists is run once more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from agents.base.json_file import read_object, write_object

FILE = "clis.json"
_FORMAT = 2
# Where docker looks for plugins, besides the user's configuration:
# https://github.com/docker/cli/blob/master/cli-plugins/manager/manager_unix.go
_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
_ELF = b"\x7fELF"


class Answer(NamedTuple):
    """The version of a docker command line; path and version of its buildx, empty where none is known."""

    version: str
    plugin: str
    buildx: str


class KnownClis:
    """The answers in the agent's state folder. A file that cannot be read or written is as none."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._file = folder / FILE
        self._environ = environ

    def answer(self, path: str) -> Answer | None:
        """Return what this program answered; None where it was not asked, or may answer otherwise by now."""
        with suppress(OSError, KeyError, TypeError):
            known = self._read()[path]
            answer = Answer(*(str(known[name]) for name in Answer._fields))
            if known["files"] == self._files(path, answer.plugin):
                return answer
        return None

    def keep(self, path: str, answer: Answer) -> None:
        """Keep what this program answered, unless that may change without a change of its files."""
        with suppress(OSError):
            files = self._files(path, answer.plugin)
            if files is None:
                return
            known = {**self._read(), path: {**answer._asdict(), "files": files}}
            write_object(self._file, {"format": _FORMAT, "clis": known})

    def _read(self) -> dict[str, Any]:
        document = read_object(self._file)
        clis = document.get("clis") if document.get("format") == _FORMAT else None
        return clis if isinstance(clis, dict) else {}

    def _files(self, path: str, plugin: str) -> list[list[Any]] | None:
        """Return the `_state` of all files that the answer depends on; None where they are not all."""
        real = os.path.realpath(path)
        with open(real, "rb") as program:  # noqa: PTH123
            is_program = program.read(len(_ELF)) == _ELF
        # A script, or snap's one program for all commands, may start another docker tomorrow.
        if not is_program or Path(real).name != "docker":
            return None
        configuration = Path(self._environ.get("DOCKER_CONFIG") or Path(self._environ.get("HOME", "/"), ".docker"))
        settings = configuration / "config.json"
        if _names_plugin_folders(settings):
            return None
        places = [real, str(settings), str(configuration / "cli-plugins"), *_PLUGIN_FOLDERS]
        return [_state(place) for place in (*places, *([os.path.realpath(plugin)] if plugin else []))]


def _names_plugin_folders(settings: Path) -> bool:
    with suppress(OSError):
        return b"cliPluginsExtraDirs" in settings.read_bytes()
    return False


def _state(path: str) -> list[Any]:
    """Return path, inode, size and time of the last change, be it of content or mode, which no program can set back."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return [path, 0, 0, 0]
    return [path, status.st_ino, status.st_size, status.st_ctime_ns]
