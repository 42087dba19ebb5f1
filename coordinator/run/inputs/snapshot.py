"""What a run was built from, kept in its folder, so that the next one can say what has changed."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from coordinator.domain.image.platforms import parse
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.domain.placement.plan import Plan, Row
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.run.model import Run
from coordinator.domain.why.built_from import KeptInputs, Origin
from coordinator.errors import UsageError
from coordinator.run.inputs.gather import Inputs, base_digest
from coordinator.state.logs import log_folder
from coordinator.store.folders import private_folder

_FILE_NAME = "inputs.json.gz"
_VERSION = 1
# Enough to tell two contents apart; the whole of it does not compress.
_DIGITS = 16


async def keep_inputs(state: Path, run_id: str, inputs: Inputs, plan: Plan, emit: Emit) -> None:
    """Writes the manifest of the context, the Dockerfile, the bases and the plan. A disk that does not take them costs
    only that."""
    path = log_folder(state, run_id) / _FILE_NAME
    try:
        await asyncio.to_thread(_write, path, inputs, plan)
    except OSError as error:
        emit(Notice(f"what this run is built from is not kept: {path}: {error.strerror}"))


def origin_of(state: Path, run: Run) -> Origin:
    """What the run was built from, as far as it is known here."""
    return Origin(request=run.request, inputs=run.inputs, kept=_read(log_folder(state, run.id) / _FILE_NAME))


def changed_paths(state: Path, run_id: str, inputs: Inputs) -> tuple[str, ...]:
    """The paths of the context that are not as that run had them, as far as it is known here."""
    kept = _read(log_folder(state, run_id) / _FILE_NAME)
    if kept is None:
        return ()
    before = {_shown(entry) for entry in kept.context}
    now = {_shown(entry) for entry in inputs.context.entries}
    return tuple(sorted({path for path, *_ in before ^ now}))


def _shown(entry: ContextEntry) -> tuple[str, EntryKind, int, str, str]:
    return entry.path, entry.kind, entry.mode, entry.digest[:_DIGITS], entry.link


def _write(path: Path, inputs: Inputs, plan: Plan) -> None:
    data = {
        "version": _VERSION,
        "context": [
            [entry.path, entry.kind, entry.mode, entry.digest[:_DIGITS], entry.link] for entry in inputs.context.entries
        ],
        "dockerfile": inputs.dockerfile.text,
        "dockerfile_path": inputs.dockerfile_path,
        "bases": {
            str(platform): {
                use.text: base_digest(use, inputs.bases[use.text]) for use in uses if use.text in inputs.bases
            }
            for platform, uses in inputs.uses.items()
        },
        "unstable": inputs.unstable,
        "plan": [[row.platform, row.host, row.mode, row.verdict, row.reason] for row in plan.rows],
    }
    private_folder(path.parent)
    # What is not UTF-8 in a path is a surrogate, and its escape ASCII. No time in it: the same inputs, the same file.
    path.write_bytes(gzip.compress(json.dumps(data, separators=(",", ":")).encode("ascii"), compresslevel=1, mtime=0))


def _read(path: Path) -> KeptInputs | None:
    """`None` for what is not there, was cut off, or is of a newer version."""
    try:
        data: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
        if data["version"] != _VERSION:
            return None
        return KeptInputs(
            context=tuple(
                ContextEntry(path=name, kind=EntryKind(kind), mode=mode, digest=digest, link=link)
                for name, kind, mode, digest, link in data["context"]
            ),
            dockerfile=data["dockerfile"],
            dockerfile_path=data["dockerfile_path"],
            bases={parse(platform): images for platform, images in data["bases"].items()},
            unstable=tuple(data["unstable"]),
            plan=tuple(Row(*row) for row in data["plan"]),
        )
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, UsageError):
        return None
