"""The agent as one file: a zipapp with a content-hash name, the same bytes wherever it is made."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import coordinator
from coordinator.errors import UsageError

# The last Python that reads this line may be much too old to read the agent: it is told so, not shown a SyntaxError.
_MAIN = b"""\
import sys

if sys.version_info < (3, 9):
    sys.exit("archloom-agent: needs Python 3.9 or newer, this is " + sys.version.split()[0])

import bytecode

bytecode.use(sys.argv[0])

from agents.__main__ import main

sys.exit(main())
"""
# Beside `agents` in the archive: what is imported before it decides from where it is.
_BEFORE = "bytecode.py"
_LEFT_OUT = frozenset({"__pycache__", "README.md", _BEFORE})


def bundle(environment: Mapping[str, str]) -> Path:
    """The file, below `$XDG_CACHE_HOME` or `~/.cache`; made where it is not there as it should be.

    Two processes that make it at once end with the same whole file. Raises UsageError where the cache cannot be
    written.
    """
    data = contents(sources())
    name = f"archloom-agent-{hashlib.sha256(data).hexdigest()[:16]}.pyz"
    root = environment.get("XDG_CACHE_HOME", "")
    folder = (Path(root) if root.startswith("/") else Path.home() / ".cache") / "archloom"
    path = folder / name
    try:
        if not path.is_file() or path.read_bytes() != data:
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, data)
    except OSError as error:
        hint = "make it writable, or set XDG_CACHE_HOME to a folder that is"
        raise UsageError(f"cannot write {path}: {error.strerror}", hint=hint, code="cache") from error
    return path


def sources() -> Path:
    """The agent's package: carried in the wheel, or beside `coordinator` in a checkout."""
    package = Path(coordinator.__file__).parent
    carried = package / "_agents"
    return carried if carried.is_dir() else package.parent / "agents"


def contents(package: Path) -> bytes:
    """The zipapp's bytes: sorted, without times, and stored, because no two zlibs need to agree."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", _MAIN)
        _add(archive, _BEFORE, (package / _BEFORE).read_bytes())
        for path in sorted(package.rglob("*")):
            relative = path.relative_to(package)
            if path.is_file() and not _LEFT_OUT.intersection(relative.parts):
                _add(archive, f"agents/{relative.as_posix()}", path.read_bytes())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


def _write(path: Path, data: bytes) -> None:
    fd, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise
