"""The control and bulk channels over stdin and stdout, from the first byte to the exit status."""

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
from agents.server.control import Operations, Save
from agents.server.purge import find_places, purge_all
from agents.wire import chunks, frames

_MAX_MARK_BYTES = 1024


class Pipes(NamedTuple):
    """Private copies of stdin and stdout. All other output goes to stderr; other readers of stdin get /dev/null."""

    reader: BinaryIO
    writer: BinaryIO
    replies: frames.Replies


def control(folder: Path, version: str, run: Callable[[Pipes], None]) -> None:
    """Send the greeting, then call `run`, which returns when the channel ends. Does not return."""
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
    # Skip the interpreter's shutdown: threads still under way end at once, and the kernel closes their descriptors.
    os._exit(0)


def bulk(folder: Path, job: str) -> int:
    """Receive the job's context and answer `ok` or `error`. Return the exit status: 0 where the context is complete."""
    pipes = _take_pipes()
    try:
        received = _receive(Jobs(folder).folder(job), folder, pipes)
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, folder)))
        return 1
    pipes.replies.greet({"ok": received._asdict()})
    return 0


def image_out(folder: Path, job: str, save: Save) -> int:
    """Send a line that names the job's image, then the image as an archive in pieces.

    An error is a line in place of the first line or of a piece. Returns the exit status: 0 where the archive is
    complete.
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


def bases_in(folder: Path, job: str, operations: Operations) -> int:
    """Load the job's bases from an archive and answer `ok` or `error`.

    Returns the exit status: 0 where the engine holds every base.
    """
    pipes = _take_pipes()
    try:
        jobs = Jobs(folder)
        job_spec = spec.read(jobs.folder(job))
        try:
            loaded = operations.load(job_spec, chunks.receive(pipes.reader))
        finally:
            jobs.settle(job, job_spec, operations.discard)
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, folder)))
        return 1
    pipes.replies.greet({"ok": loaded})
    return 0


def purge(environment: Mapping[str, str]) -> int:
    """Delete everything of archloom on this host for this user, and answer what was deleted.

    stdin has the mark that ends the user's line in `authorized_keys`. Returns the exit status.
    """
    pipes = _take_pipes()
    try:
        places = find_places(environment)
        done = purge_all(places, pipes.reader.read(_MAX_MARK_BYTES).decode("ascii", "replace").strip())
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
        # A broken transfer has added objects too. A disk too full to write the ledger must not fail the transfer.
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
