"""Render entries as `inventory.yaml` and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from coordinator.config.imports.entries import Entries, Entry

_ADVICE = """# A machine that may also run foreign platforms through QEMU, usually the x86 one, belongs under emulators:
# move its entry there. archloom cannot tell which one that is."""
# YAML 1.1 parsers, for example in editors, read these words as booleans or null.
_PLAIN_NAME = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[a-z][a-z0-9._-]*\Z", re.IGNORECASE)


def yaml_text(entries: Entries) -> str:
    """Return a complete `inventory.yaml`; each section can also be pasted into another inventory."""
    lines = [f"# From {entries.source}."]
    if entries.boards:
        lines += [_ADVICE, "boards:", *_section(entries.boards)]
    if entries.emulators:
        lines += ["emulators:", *_section(entries.emulators)]
    return "\n".join(lines)


def document(entries: Entries) -> dict[str, object]:
    """Return plain data: the source, the sections in the long form of an inventory, and the notes."""
    return {
        "source": entries.source,
        "boards": {entry.name: _long(entry) for entry in entries.boards},
        "emulators": {entry.name: _long(entry) for entry in entries.emulators},
        "notes": list(entries.notes),
    }


def _section(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        name = entry.name if _PLAIN_NAME.match(entry.name) else json.dumps(entry.name)
        if not entry.platforms:
            yield f"  {name}: {entry.address}"
            continue
        yield f"  {name}:"
        yield f"    host: {entry.address}"
        yield f"    platforms: [{', '.join(map(str, entry.platforms))}]"


def _long(entry: Entry) -> dict[str, object]:
    pinned = {"platforms": [str(platform) for platform in entry.platforms]} if entry.platforms else {}
    return {"host": str(entry.address), **pinned}
