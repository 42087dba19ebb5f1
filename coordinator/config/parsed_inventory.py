"""The inventory as it was parsed last, in the state folder: to validate a file again takes a third of a rebuild."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from coordinator import __version__
from coordinator.config.load import load
from coordinator.domain.hosts.inventory import Inventory

_FOLDER = "inventories"
# Uncached, it evaluates all annotations of a class at each call: 0.2 ms a host.
_types = cache(get_type_hints)


def load_again(path: Path, state: Path) -> Inventory:
    """Return the inventory in this file as `load` does, without parsing where nothing it depends on has changed.

    Raises UsageError as `load` does. What is kept is written only where the state folder exists, and ignored where it
    is damaged.
    """
    kept = state / _FOLDER / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.json"
    key = _key(path)
    inventory = _read(kept, key)
    if inventory is not None:
        return inventory
    inventory = load(path)
    # The same key again: the file was not written to meanwhile.
    if key and state.is_dir() and _key(path) == key:
        with contextlib.suppress(OSError):
            _write(kept, key, inventory)
    return inventory


def _key(path: Path) -> str:
    """Return a digest of all that the result depends on, but for the files it names; empty where that is unknown."""
    # A pipe can be read only once.
    if not path.is_file():
        return ""
    digest = hashlib.sha256(f"{__version__}\n{path}\n{Path.home()}\n".encode(errors="surrogateescape"))
    try:
        # The code that parses, which in a checkout changes without the version.
        with os.scandir(Path(__file__).parent) as modules:
            files = [(entry.name, entry.stat().st_mtime_ns) for entry in modules if entry.is_file()]
        digest.update(str(sorted(files)).encode())
        digest.update(path.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()


def _read(kept: Path, key: str) -> Inventory | None:
    try:
        document = json.loads(kept.read_bytes())
        if not key or document["key"] != key:
            return None
        inventory = _value(Inventory, document["inventory"])
    except (OSError, ValueError, TypeError, KeyError, LookupError, AttributeError):
        return None
    found = isinstance(inventory, Inventory) and all(
        Path(registry.ca).is_file() for registry in inventory.registries.values() if registry.ca
    )
    return inventory if found else None


def _write(kept: Path, key: str, inventory: Inventory) -> None:
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps({"key": key, "inventory": _plain(inventory)}), "utf-8")
        partial.replace(kept)
    finally:
        partial.unlink(missing_ok=True)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a frozen value of `domain` as JSON has it. Its enumerations are strings already."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _value(kind: Any, plain: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the value of this type from what `_plain` returned. Raises ValueError, TypeError or KeyError."""
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: _value(hint, plain[name]) for name, hint in _types(kind).items()})
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return tuple(_value(arguments[0], item) for item in plain)
    if get_origin(kind) is not None and issubclass(get_origin(kind) or object, Mapping):
        return {name: _value(arguments[1], item) for name, item in plain.items()}
    if arguments:
        # A value or None.
        return None if plain is None else _value(arguments[0], plain)
    return kind(plain)
