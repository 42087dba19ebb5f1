"""The agent's command line: selects a channel, or the detached process of a job."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agents.base import state
from agents.base.errors import AgentError
from agents.base.failures import full_disk, means_full_disk

if TYPE_CHECKING:
    from agents.server.control import Operations
    from agents.server.supervisor import Prepare

_USAGE = "usage: archloom-agent serve | context JOB | image JOB | load JOB | purge | --version"


def run(arguments: Sequence[str], operations: Callable[[], Operations], prepare: Prepare | None = None) -> int:
    """Run one command and return the exit status. Each command imports what it needs: a board starts several of them.

    `operations` is called by the commands that need them. `job`, with the arguments that `start` builds, is the
    detached process, and not meant for users.
    """
    words = list(arguments)
    try:
        if words == ["serve"]:
            from agents.server.control_channel import serve

            serve(state.open_state(os.environ), version(), operations(), prepare)
        if len(words) == 5 and words[0] == "job":
            from agents.server import supervisor

            return supervisor.main(words[1:], prepare)
        if words == ["--version"]:
            from agents.wire import frames

            print(f"archloom-agent {version()}, protocol {frames.PROTOCOL}")  # noqa: T201 - asked for by a person
            return 0
        status = _bulk(words, operations)
        if status is not None:
            return status
    except (AgentError, OSError) as error:
        shown: Exception = error
        if isinstance(error, OSError) and means_full_disk(error):
            shown = full_disk(error, state.folders(os.environ)[0])
        print(f"archloom-agent: {shown}", file=sys.stderr)  # noqa: T201
        return 1
    print(_USAGE, file=sys.stderr)  # noqa: T201
    return 2


def _bulk(words: Sequence[str], operations: Callable[[], Operations]) -> int | None:
    """Serve the bulk channel of this command and return the exit status; None where it is not one."""
    from agents.server import channels

    if words == ["purge"]:
        return channels.purge(os.environ)
    if len(words) != 2:
        return None
    command, job = words
    if command == "context":
        return channels.bulk(state.open_state(os.environ), job)
    if command == "image":
        return channels.image_out(state.open_state(os.environ), job, operations().save)
    if command == "load":
        return channels.bases_in(state.open_state(os.environ), job, operations())
    return None


def version() -> str:
    """Return the hash in the file name that the coordinator gave this agent; `source` in a checkout."""
    named = re.search(r"archloom-agent-([0-9a-f]+)\.pyz", __file__)
    return named[1] if named else "source"
