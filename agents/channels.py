"""The two channels over stdin and stdout, from their first byte to the exit status."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agents import frames, process, state
from agents.context import receive
from agents.failures import explain
from agents.jobs import Jobs


class Pipes(NamedTuple):
    """The channel's own ends. What else is printed goes to stderr, and nobody else reads what comes in."""

    reader: BinaryIO
    replies: frames.Replies


def control(folder: Path, version: str, run: Callable[[Pipes], None]) -> None:
    """Say hello, then `run` until the channel ends. Does not return."""
    pipes = _take_pipes()
    pipes.replies.greet(
        {
            "protocol": frames.PROTOCOL,
            "agent": version,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "parent": os.getppid(),
            "parent_start": process.start_time(os.getppid()) or 0,
            "machine_id": state.machine_id(),
            "boot_id": state.boot_id(),
            "state": str(folder),
        }
    )
    run(pipes)
    # Not by way of the interpreter: threads that still carry something end here, and the kernel closes what they hold.
    os._exit(0)


def bulk(folder: Path, job: str) -> int:
    """Receive the job's context and say how that went; the exit status is 0 where it is there."""
    pipes = _take_pipes()
    try:
        received = receive(Jobs(folder).folder(job), pipes.reader)
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, folder)))
        return 1
    pipes.replies.greet({"ok": received._asdict()})
    return 0


def _take_pipes() -> Pipes:
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Pipes(reader, frames.Replies(writer))
