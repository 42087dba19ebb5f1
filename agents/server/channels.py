"""The two channels over stdin and stdout, from their first byte to the exit status."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agents.base import process, state
from agents.base.failures import explain
from agents.context.cache import Objects
from agents.context.cache_gc import budget, trim
from agents.context.receive import receive
from agents.context.transfer import Received
from agents.job import spec
from agents.job.store import Jobs
from agents.server.control import Parts, Save
from agents.server.purge import find_places, purge_all
from agents.wire import chunks, frames

_LONGEST_MARK = 1024


class Pipes(NamedTuple):
    """The channel's own ends. What else is printed goes to stderr, and nobody else reads what comes in."""

    reader: BinaryIO
    writer: BinaryIO
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
        received = _receive(Jobs(folder).folder(job), folder, pipes)
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, folder)))
        return 1
    pipes.replies.greet({"ok": received._asdict()})
    return 0


def image_out(folder: Path, job: str, save: Save) -> int:
    """Send the job's image as an archive, after a line that says which it is; the exit status is 0 where it is whole.

    What goes wrong is a line in place of the first one or of a piece.
    """
    pipes = _take_pipes()
    try:
        save(
            spec.read(Jobs(folder).folder(job)),
            lambda image: pipes.replies.greet({"ok": image}),
            lambda data: chunks.send(pipes.writer, data),
        )
        chunks.end(pipes.writer)
    except BrokenPipeError:
        return 1
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, folder)))
        return 1
    return 0


def bases_in(folder: Path, job: str, parts: Parts) -> int:
    """Load the job's bases from an archive and say how that went; the exit status is 0 where they are held."""
    pipes = _take_pipes()
    try:
        jobs = Jobs(folder)
        wanted = spec.read(jobs.folder(job))
        try:
            loaded = parts.load(wanted, chunks.receive(pipes.reader))
        finally:
            jobs.settle(job, wanted, parts.discard)
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, folder)))
        return 1
    pipes.replies.greet({"ok": loaded})
    return 0


def purge(environment: Mapping[str, str]) -> int:
    """Delete everything of archloom on this host and say what that was. The mark of the user's key is on stdin."""
    pipes = _take_pipes()
    try:
        places = find_places(environment)
        done = purge_all(places, pipes.reader.read(_LONGEST_MARK).decode("ascii", "replace").strip())
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, Path("/"))))
        return 1
    pipes.replies.greet({"ok": done})
    return 0


def _receive(job: Path, folder: Path, pipes: Pipes) -> Received:
    objects = Objects(folder)
    try:
        return receive(job, pipes.reader, pipes.replies.greet, objects)
    finally:
        # Also after a transfer that broke: what had come is in the store. A disk too full to count is no context's end.
        with suppress(OSError):
            trim(objects.root, objects.added, budget(objects.root))
        objects.close()


def _take_pipes() -> Pipes:
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Pipes(reader, writer, frames.Replies(writer))
