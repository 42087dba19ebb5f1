"""The agent's command line: selects a channel, or the detached process of a job."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from agents.base import state
from agents.base.errors import AgentError
from agents.engine import engines
from agents.server import channels, supervisor
from agents.server.control import Operations, Server
from agents.wire import frames

_USAGE = "usage: archloom-agent serve | context JOB | image JOB | load JOB | purge | --version"


def run(arguments: Sequence[str], operations: Operations, prepare: supervisor.Prepare = engines.prepare) -> int:
    """Run one command and return the exit status.

    `job`, with the arguments that `start` builds, is the detached process, and not meant for users.
    """
    words = list(arguments)
    try:
        if words == ["serve"]:
            folder = state.open_state(os.environ)
            channels.control(
                folder, version(), lambda pipes: Server(folder, operations, pipes.replies).run(pipes.reader)
            )
        if len(words) == 2 and words[0] == "context":
            return channels.bulk(state.open_state(os.environ), words[1])
        if len(words) == 2 and words[0] == "image":
            return channels.image_out(state.open_state(os.environ), words[1], operations.save)
        if len(words) == 2 and words[0] == "load":
            return channels.bases_in(state.open_state(os.environ), words[1], operations)
        if words == ["purge"]:
            return channels.purge(os.environ)
        if len(words) == 5 and words[0] == "job":
            return supervisor.main(words[1:], prepare)
        if words == ["--version"]:
            print(f"archloom-agent {version()}, protocol {frames.PROTOCOL}")  # noqa: T201 - asked for by a person
            return 0
    except (AgentError, OSError) as error:
        print(f"archloom-agent: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(_USAGE, file=sys.stderr)  # noqa: T201
    return 2


def version() -> str:
    """Return the hash in the file name that the coordinator gave this agent; `source` in a checkout."""
    named = re.search(r"archloom-agent-([0-9a-f]+)\.pyz", __file__)
    return named[1] if named else "source"
