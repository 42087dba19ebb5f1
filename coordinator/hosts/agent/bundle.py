"""The agent as one zipapp, named by its content hash and byte-for-byte reproducible."""

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

# `__main__.py` must parse on Pythons that are too old for the agent, so that they report the version instead of a
# SyntaxError.
_MAIN = b"""\
import sys

if sys.version_info < (3, 9):
    sys.exit("archloom-agent: needs Python 3.9 or newer, this is " + sys.version.split()[0])

import bytecode

bytecode.use(sys.argv[0])

from agents.__main__ import main

sys.exit(main())
"""
# Lies beside `agents` in the archive, because it decides from where `agents` is imported.
_BOOTSTRAP_MODULE = "bytecode.py"
_EXCLUDED = frozenset({"__pycache__", "README.md", _BOOTSTRAP_MODULE})


def bundle(environment: Mapping[str, str]) -> Path:
    """Return the path of the agent's file in `$XDG_CACHE_HOME/archloom`, else `~/.cache/archloom`.

    Writes the file where it is absent or differs. Safe to call from several processes at once: the file is
    replaced atomically. Raises UsageError `cache` where the cache cannot be written.
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
    """Return the agent's package: `coordinator/_agents` in a wheel, `agents` beside `coordinator` in a checkout."""
    package = Path(coordinator.__file__).parent
    in_wheel = package / "_agents"
    return in_wheel if in_wheel.is_dir() else package.parent / "agents"


def contents(package: Path) -> bytes:
    """Return the zipapp's bytes.

    Reproducible: entries are sorted, have no timestamps, and are stored, because zlib's output varies between versions.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", _MAIN)
        _add(archive, _BOOTSTRAP_MODULE, (package / _BOOTSTRAP_MODULE).read_bytes())
        for path in sorted(package.rglob("*")):
            relative = path.relative_to(package)
            if path.is_file() and not _EXCLUDED.intersection(relative.parts):
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
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise
