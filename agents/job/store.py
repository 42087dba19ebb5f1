"""Job folders: created atomically, listed, and removed with everything the job holds in the engine."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from agents.base import files, process, state
from agents.base.errors import AgentError
from agents.base.json_file import read_object, write_object
from agents.base.locks import locked
from agents.base.trees import remove, remove_tree
from agents.job import cancel, results, spec

CONTEXT = "context"
_CONTEXT_BOOT = "context.boot"
# Images of jobs that were cut short and are forgotten, each with the time of that: removed when the next run comes.
_LATE = ".late.json"
_LATE_S = 86400.0
_CUT_SHORT = frozenset({"LOST", "CANCELLED"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}\Z")

Discard = Callable[[spec.Spec], None]


class Jobs:
    """The jobs below one state folder. A name that is not a valid job id never reaches the file system."""

    def __init__(self, state_folder: Path) -> None:
        self._root = state_folder / "jobs"

    def folder(self, job: str) -> Path:
        """Return the folder of an existing job. Raises AgentError `bad_request` on an invalid name, `unknown_job`."""
        path = self._path(job)
        if not path.is_dir():
            raise AgentError("unknown_job", f"there is no job '{job}' on this host")
        return path

    def create(self, job: str, wanted: object) -> None:
        """Create the job's folder and spec atomically; again with the same spec is fine.

        Raises AgentError `spec_differs` where the job exists with another spec, `bad_request` where name or spec is
        invalid.
        """
        spec.parse_new(wanted)
        path = self._path(job)
        with locked(self._root, ".lock"):
            if path.is_dir():
                if read_object(path / spec.FILE) != wanted:
                    raise AgentError("spec_differs", f"job '{job}' exists with another spec")
                return
            remove(path)  # a file, or a link to nowhere
            fresh = self._root / f".new.{job}.{os.urandom(8).hex()}"
            fresh.mkdir(mode=0o700)
            try:
                # Flushed: the spec names what the engine will hold for the job, also after a power cut.
                files.write_whole(fresh / spec.FILE, json.dumps(wanted).encode())
                fresh.rename(path)
                files.flush_folder(self._root)
            except BaseException:
                remove_tree(fresh)
                raise

    def forget(self, job: str, discard: Discard) -> None:
        """Cancel the job, discard what the engine holds for it, and remove its folder.

        Repeating is fine, as are unknown jobs. Where `discard` fails the folder stays, so that another call can finish.
        """
        path = self._path(job)
        if path.is_dir():
            result = cancel.cancel(path)
            # Under the lock no new job can start to need a base between this check and the base's removal.
            with locked(self._root, ".lock"):
                own = _readable_spec(path) or spec.of_damaged(job)
                shared = {base.name for other in self._others(path) for base in other.bases}
                discard(own._replace(bases=tuple(base for base in own.bases if base.name not in shared)))
                if result["state"] in _CUT_SHORT and process.read(path) is not None:
                    self._expect_late(own.image)
                path.rename(self._root / f".gone.{job}.{os.urandom(8).hex()}")
        for path in self._named(f".new.{job}.", f".gone.{job}."):
            remove_tree(path)

    def sweep(self, discard: Discard) -> None:
        """Remove what agents that were killed have left of jobs, and images that an engine finished too late."""
        with locked(self._root, ".lock"):
            # Whoever makes a job holds this lock, so what is half made now was left.
            left = self._named(".new.", ".gone.")
            late = read_object(self._root / _LATE)
            self._write_late(late)
        for path in left:
            remove_tree(path)
        for image in late:
            if not (self._root / spec.job_of(image)).is_dir():
                discard(spec.of_image(image))

    def settle(self, job: str, arrived: spec.Spec, discard: Discard) -> None:
        """Discard bases that arrived for a job that was forgotten meanwhile, except those that another job names."""
        path = self._path(job)
        with locked(self._root, ".lock"):
            if not path.is_dir():
                shared = {base.name for other in self._others(path) for base in other.bases}
                discard(arrived._replace(bases=tuple(base for base in arrived.bases if base.name not in shared)))

    def entries(self) -> list[dict[str, object]]:
        """Return `{"job", "state", "since"}` of every job.

        States: SENDING before the job is started, BUILDING while it runs, then the state of its result.
        """
        entries = (_describe(path) for path in self._folders())
        return [entry for entry in entries if entry is not None]

    def _expect_late(self, image: str) -> None:
        """Note that the engine may name this image after its job is forgotten: it finishes the last step of a build."""
        self._write_late({**read_object(self._root / _LATE), image: time.time()})

    def _write_late(self, late: dict[str, object]) -> None:
        recent = {
            image: when for image, when in late.items() if isinstance(when, float) and abs(time.time() - when) < _LATE_S
        }
        if recent != read_object(self._root / _LATE):
            with suppress(OSError):  # a full disk
                write_object(self._root / _LATE, recent)

    def _named(self, *beginnings: str) -> list[Path]:
        return [path for path in self._root.iterdir() if path.name.startswith(beginnings)]

    def _path(self, job: str) -> Path:
        if not _NAME.match(job):
            raise AgentError("bad_request", f"job is {job!r}, expected {_NAME.pattern}")
        return self._root / job

    def _folders(self) -> Iterator[Path]:
        return (path for path in sorted(self._root.iterdir()) if _NAME.match(path.name) and path.is_dir())

    def _others(self, path: Path) -> Iterator[spec.Spec]:
        for other in self._folders():
            other_spec = None if other == path else _readable_spec(other)
            if other_spec is not None:
                yield other_spec


def has_arrived(folder: Path) -> bool:
    """Whether the job has its context. One that arrived in an earlier boot does not count: a power cut can leave files
    with holes.
    """
    try:
        return (folder / CONTEXT).is_dir() and files.read(folder / _CONTEXT_BOOT) == state.boot_id().encode()
    except OSError:
        return False


def mark_arrived(folder: Path) -> None:
    """Record that the context arrived in this boot. It counts from now on, or once it is renamed to its place."""
    (folder / _CONTEXT_BOOT).write_text(state.boot_id(), encoding="ascii")


def _readable_spec(path: Path) -> spec.Spec | None:
    # A power cut may leave an empty spec. Without it, the names of the job's bases are unknown.
    try:
        return spec.read(path)
    except AgentError:
        return None


def _describe(path: Path) -> dict[str, object] | None:
    try:
        state, since = _state(path)
    except FileNotFoundError:
        return None  # another request has forgotten the job meanwhile
    except OSError:
        # Such as a folder of another user, after `sudo` with the same home. One job must not hide the others.
        return {"job": path.name, "state": "LOST", "since": 0.0}
    return {"job": path.name, "state": state, "since": since}


def _state(path: Path) -> tuple[str, float]:
    result = results.ended(path)
    if result is not None:
        return str(result["state"]), (path / results.FILE).stat().st_mtime
    if process.read(path) is not None:
        return "BUILDING", (path / process.FILE).stat().st_mtime
    return "SENDING", path.stat().st_mtime
