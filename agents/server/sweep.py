"""Removes what killed agents and power cuts have left on this host: once per connection, beside the requests."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from agents.base.errors import AgentError
from agents.base.trees import remove
from agents.context import folder_gc
from agents.job.store import Discard, Jobs

# Files that are written under another name first, and renamed: see `agents/base/files.py`, `agents/bytecode.py` and the
# script that starts the agent.
_PARTIAL = re.compile(r"\.[a-z-]+(?:\.json)?\.[0-9-]+\Z|\.archloom-agent-[0-9a-f]+\.pyz\..*\Z")
# Longer than any of them takes to write.
_WRITING_S = 3600.0


def sweep(state: Path, agent_folder: Path | None, discard: Discard, remove_leaked: Callable[[], object]) -> None:
    """Remove all of it that can be removed now. `agent_folder` has the agent's file; None for a checkout."""
    steps: tuple[Callable[[], object], ...] = (
        lambda: Jobs(state).sweep(discard),
        remove_leaked,
        lambda: folder_gc.sweep(state),
        lambda: _remove_partials(filter(None, (state, agent_folder))),
    )
    for step in steps:
        # The next connection tries again: an engine may be down, a file another user's.
        with suppress(AgentError, OSError):
            step()


def own_folder() -> Path | None:
    """Return the folder of this agent's file; None for a checkout."""
    archive = Path(sys.argv[0])
    return archive.parent if archive.suffix == ".pyz" else None


def _remove_partials(folders: Iterable[Path]) -> None:
    for folder in folders:
        for path in folder.iterdir():
            if _PARTIAL.match(path.name):
                with suppress(FileNotFoundError):
                    if time.time() - path.lstat().st_mtime > _WRITING_S:
                        remove(path)
