"""The bulk channels over stdin and stdout, from the first byte to the exit status."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agents.base.failures import explain
from agents.base.state import VERSION_FILE
from agents.context.cache_gc import opened
from agents.context.receive import receive
from agents.job import spec
from agents.job.store import Jobs
from agents.server.pipes import take_pipes
from agents.server.vitals import beating
from agents.wire import chunks, frames

if TYPE_CHECKING:
    from agents.server.control import Operations, Save

_MAX_MARK_BYTES = 1024


def bulk(folder: Path, job: str) -> int:
    """Receive the job's context and answer `ok` or `error`. Return the exit status: 0 where the context is complete."""
    pipes = take_pipes()
    try:
        place = Jobs(folder).folder(job)
        with beating(pipes.replies, str(folder / VERSION_FILE)), opened(folder) as objects:
            received = receive(place, spec.read(place).context_key, pipes.reader, pipes.replies.greet, objects)
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
    pipes = take_pipes()
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
    pipes = take_pipes()
    try:
        jobs = Jobs(folder)
        job_spec = spec.read(jobs.folder(job))
        try:
            with beating(pipes.replies, str(folder / VERSION_FILE)):
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
    from agents.server.purge import find_places, purge_all

    pipes = take_pipes()
    try:
        places = find_places(environment)
        done = purge_all(places, pipes.reader.read(_MAX_MARK_BYTES).decode("ascii", "replace").strip())
    except Exception as error:  # noqa: BLE001 - the boundary: the coordinator always gets an answer
        pipes.replies.greet(frames.failure(explain(error, Path("/"))))
        return 1
    pipes.replies.greet({"ok": done})
    return 0
