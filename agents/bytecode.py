"""The agent's modules compiled once: Python keeps no byte code of a zip archive, and a Pi Zero compiles for seconds.

In the archive this lies beside `agents`, not in it, and runs before anything of that is imported.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

# PEP 552: validated by nothing, because the archive's own name has the hash of its sources.
_UNCHECKED = (1).to_bytes(4, "little")


def use(archive: str) -> None:
    """Import the agent's modules from the byte code beside the archive, which is made where it is not there yet.

    Where it cannot be made, the modules come from the archive itself.
    """
    # Byte code is one interpreter's own, and boards get new ones.
    cache = Path(f"{archive}.{sys.implementation.cache_tag}-{sys.hexversion:x}")
    try:
        if not cache.exists():
            _write(cache, Path(archive))
        if _is_ours(cache):
            sys.path.insert(0, str(cache))
    except OSError:
        return


def _is_ours(path: Path) -> bool:
    """Nobody else has put it there."""
    found = path.lstat()
    return not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _write(cache: Path, archive: Path) -> None:
    """The whole file or none: several agents start at once, and a board may lose its power in between."""
    import zipfile  # slow to import, and needed once

    partial = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            with zipfile.ZipFile(archive) as sources, zipfile.ZipFile(file, "w") as compiled:
                for name in sources.namelist():
                    if name.startswith("agents/") and name.endswith(".py"):
                        compiled.writestr(f"{name}c", _compiled(sources.read(name), f"{archive}/{name}"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(cache)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _compiled(source: bytes, name: str) -> bytes:
    """As a .pyc file has it."""
    code = compile(source, name, "exec", dont_inherit=True)
    return MAGIC_NUMBER + _UNCHECKED + source_hash(source) + marshal.dumps(code)
