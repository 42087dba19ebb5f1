"""Removes files and folders of the agent's own, whatever they have become."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# A path has at most 4096 bytes (PATH_MAX), and a name 255.
_LONG_PATH_BYTES = 2048


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing where there is none. Raises OSError."""
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):
        # POSIX lets unlink(2) answer EPERM for a folder.
        if not path.is_dir() or path.is_symlink():
            raise
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a tree whose folders may have any mode and any depth: contexts keep the modes they were sent with.

    What another process removes at the same time is no error. Raises OSError.
    """
    if path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # Without shutil, whose import takes the agent longer than most of its requests.
    tops, emptied = [path], []
    for top in tops:
        with suppress(FileNotFoundError):
            top.chmod(0o700)
        emptied.append(top)
        for parent, folders, files in os.walk(top, onerror=_fail):
            # os.walk counts links to folders as folders, and would list what was one of them.
            links = {name for name in folders if Path(parent, name).is_symlink()}
            folders[:] = [name for name in folders if name not in links]
            for name in (*files, *links):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(parent, name))  # noqa: PTH108, PTH118 - a context may have 100 000 of them
            for name in folders:
                with suppress(FileNotFoundError):
                    Path(parent, name).chmod(0o700)
            if len(os.fsencode(parent)) > _LONG_PATH_BYTES:
                tops += _moved_up(path, parent, folders)
                folders.clear()
            emptied += [Path(parent, name) for name in folders]
    # A folder comes after the folder that it is in.
    for folder in reversed(emptied):
        with suppress(FileNotFoundError):
            folder.rmdir()


def _moved_up(top: Path, parent: str, names: list[str]) -> list[Path]:
    """Move these folders to the top of the tree, where their paths are short. Return their new paths."""
    moved = [top / f".deep.{os.urandom(8).hex()}" for _ in names]
    for name, place in zip(names, moved):
        with suppress(FileNotFoundError):
            Path(parent, name).rename(place)
    return moved


def _fail(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
