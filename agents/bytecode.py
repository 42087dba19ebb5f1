"""Compiles the agent's modules once: Python caches no byte code for a zip archive, and a Pi Zero compiles for seconds.

zipimport does not add .pyc files to an archive: https://docs.python.org/3/library/zipimport.html. In the archive this
module is beside the package `agents`, not in it, and runs before `agents` is imported.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
import zlib
from pathlib import Path

# An archive may have bytes before it: the checksum of all that follows, in hex.
_SUM_BYTES = 8
# PEP 552, unchecked hash-based .pyc: Python need not validate it, as the archive's name has the hash of its sources.
_UNCHECKED = (1).to_bytes(4, "little")


def use(archive: str) -> None:
    """Put the byte code beside the archive first on `sys.path`; write it where it does not exist yet, or is damaged.

    Where it cannot be written, or may not be trusted, the modules are imported from the archive itself.
    """
    # A board may be upgraded, and Python loads no byte code with another MAGIC_NUMBER. CPython keeps that number for a
    # minor version from its release on (PEP 3147), and changes it between alphas and betas: the name has all of it.
    cache = Path(f"{archive}.{sys.implementation.cache_tag}-{sys.hexversion:x}")
    try:
        if not _is_whole(cache):
            _write(cache, Path(archive))
        if _is_ours(cache):
            sys.path.insert(0, str(cache))
    except OSError:
        return


def _is_whole(path: Path) -> bool:
    """Return whether the file has what was written: zipimport does not compare the checksums in an archive."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    return data[:_SUM_BYTES] == _sum(memoryview(data)[_SUM_BYTES:])


def _sum(data: memoryview) -> bytes:
    return b"%08x" % zlib.crc32(data)


def _is_ours(path: Path) -> bool:
    """Return whether the file is this user's, no symbolic link, and not writable by group or others."""
    status = path.lstat()
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _write(cache: Path, archive: Path) -> None:
    """Write the byte code atomically: several agents may start at once, and a board may lose power meanwhile."""
    import io
    import zipfile  # slow to import, and needed only for the first start

    partial = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            buffer = io.BytesIO()
            buffer.write(bytes(_SUM_BYTES))
            with zipfile.ZipFile(archive) as sources, zipfile.ZipFile(buffer, "w") as compiled:
                for name in sources.namelist():
                    if name.startswith("agents/") and name.endswith(".py"):
                        compiled.writestr(f"{name}c", _compiled(sources.read(name), f"{archive}/{name}"))
            data = buffer.getbuffer()
            data[:_SUM_BYTES] = _sum(data[_SUM_BYTES:])
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(cache)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _compiled(source: bytes, name: str) -> bytes:
    """Return the content of the .pyc file of this source (PEP 552)."""
    from importlib.util import MAGIC_NUMBER, source_hash  # with `zipfile`, for the first start

    code = compile(source, name, "exec", dont_inherit=True)
    return MAGIC_NUMBER + _UNCHECKED + source_hash(source) + marshal.dumps(code)
