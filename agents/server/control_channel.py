"""The control channel over stdin and stdout, from the greeting to the exit status."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agents.base import process, state
from agents.server import fork_server, supervisor
from agents.server.control import Operations, Server
from agents.server.pipes import take_pipes
from agents.server.supervisor import Prepare
from agents.wire import frames


def serve(folder: Path, version: str, operations: Operations, prepare: Prepare | None) -> None:
    """Send the greeting, then answer requests until the channel ends. Does not return.

    `prepare` is what `supervisor.main` gets in the jobs' processes.
    """
    starter = fork_server.fork(lambda words: supervisor.main(words, prepare))
    pipes = take_pipes()
    pipes.replies.greet(
        {
            "protocol": frames.PROTOCOL,
            "agent": version,
            "python": ".".join(map(str, sys.version_info[:3])),
            "pid": os.getpid(),
            "parent": os.getppid(),
            "parent_start": process.start_time(os.getppid()) or 0,
            "machine_id": state.machine_id(),
            "boot_id": state.boot_id(),
            "state": str(folder),
        }
    )
    Server(folder, operations, pipes.replies, starter).run(pipes.reader)
    # Skip the interpreter's shutdown: threads still under way end at once, and the kernel closes their descriptors.
    os._exit(0)
