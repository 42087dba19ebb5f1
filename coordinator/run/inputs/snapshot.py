"""A snapshot of a run's inputs in its folder, so that a later run can name what has changed."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.model import Run
from coordinator.errors import UsageError
from coordinator.run.inputs.base_images import base_digest
from coordinator.run.inputs.gather import Inputs
from coordinator.state.logs import log_folder
from coordinator.store.folders import private_folder

if TYPE_CHECKING:
    from coordinator.domain.placement.plan import Row
    from coordinator.domain.why.built_from import BuiltFrom, KeptInputs

_FILE_NAME = "inputs.json.gz"
_VERSION = 2
# Enough to distinguish two contents; whole digests would make the file larger, as they do not compress.
_DIGEST_DIGITS = 16


async def keep_inputs(state: Path, run_id: str, inputs: Inputs, plan: Sequence[Row], emit: Emit) -> None:
    """Write the snapshot: the manifest of the context, the Dockerfile, the bases and the rows of the plan.

    Where the disk is full or fails, emit a notice: only the snapshot is lost.
    """
    path = log_folder(state, run_id) / _FILE_NAME
    try:
        await asyncio.to_thread(_write, path, inputs, plan)
    except OSError as error:
        emit(Notice(f"the inputs of this run cannot be stored: {path}: {error.strerror}"))


def built_from(state: Path, run: Run) -> BuiltFrom:
    """Return the request and the inputs of the run, as far as this coordinator still has them."""
    from coordinator.domain.why.built_from import BuiltFrom

    return BuiltFrom(request=run.request, inputs=run.inputs, kept=_read(log_folder(state, run.id) / _FILE_NAME))


def changed_paths(state: Path, run_id: str, inputs: Inputs) -> tuple[str, ...]:
    """Return the context paths that differ from the snapshot of that run, sorted; empty without a snapshot."""
    kept = _read(log_folder(state, run_id) / _FILE_NAME)
    if kept is None:
        return ()
    changed: set[str] = set()
    for platform, context in inputs.contexts.items():
        before = {_shown(entry) for entry in kept.contexts.get(platform, ())}
        now = {_shown(entry) for entry in context.manifest.entries}
        changed |= {path for path, *_ in before ^ now}
    return tuple(sorted(changed))


def _shown(entry: ContextEntry) -> tuple[str, EntryKind, int, str, str, str]:
    return entry.path, entry.kind, entry.mode, entry.digest[:_DIGEST_DIGITS], entry.link, entry.hard_link


def _entry(row: tuple[str, str, int, str, str, str]) -> ContextEntry:
    path, kind, mode, digest, link, hard_link = row
    return ContextEntry(path=path, kind=EntryKind(kind), mode=mode, digest=digest, link=link, hard_link=hard_link)


def _write(path: Path, inputs: Inputs, plan: Sequence[Row]) -> None:
    data = {
        "version": _VERSION,
        "contexts": _contexts(inputs),
        "dockerfile": inputs.dockerfile.text,
        "dockerfile_path": inputs.dockerfile_path,
        "bases": {
            str(platform): {
                use.text: base_digest(use, inputs.bases[use.text]) for use in uses if use.text in inputs.bases
            }
            for platform, uses in inputs.uses.items()
        },
        "unstable": inputs.unstable,
        "plan": [[row.platform, row.host, row.mode, row.verdict, row.reason] for row in plan],
    }
    private_folder(path.parent)
    # JSON escapes the surrogates of non-UTF-8 paths as ASCII. `mtime=0`: the same inputs give the same bytes.
    path.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode("ascii"), compresslevel=1, mtime=0))


def _contexts(inputs: Inputs) -> list[tuple[list[str], list[tuple[object, ...]]]]:
    """Return platforms and entries of each context, once for all platforms that take the same."""
    platforms: dict[str, list[Platform]] = {}
    for platform, context in inputs.contexts.items():
        platforms.setdefault(context.digest, []).append(platform)
    return [
        (list(map(str, same)), list(map(_shown, inputs.contexts[same[0]].manifest.entries)))
        for same in platforms.values()
    ]


def _read(path: Path) -> KeptInputs | None:
    """Return the snapshot; None where it is absent, truncated, or of another version."""
    from coordinator.domain.placement.plan import Row
    from coordinator.domain.why.built_from import KeptInputs

    try:
        data: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
        if data["version"] != _VERSION:
            return None
        return KeptInputs(
            contexts={
                parse(platform): entries
                for platforms, rows in data["contexts"]
                for entries in [tuple(map(_entry, rows))]
                for platform in platforms
            },
            dockerfile=data["dockerfile"],
            dockerfile_path=data["dockerfile_path"],
            bases={parse(platform): images for platform, images in data["bases"].items()},
            unstable=tuple(data["unstable"]),
            plan=tuple(Row(*row) for row in data["plan"]),
        )
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, UsageError):
        return None
