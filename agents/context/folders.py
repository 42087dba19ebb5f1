"""The folders that engines read contexts from: one per key, kept from job to job, under a name that can be trusted.

The key stands for a target, a platform and a coordinator. BuildKit keeps a copy of each folder that it has read, and
asks only for what changed: by the folder's path (docker) or its last component (buildx), and the client's node id. So
all of these are stable, and the last component is unique. A folder gets a new name, its next *generation*, after a
restart of the machine, and where BuildKit would be fooled (`agents/context/known_states.py`).

One job has a folder at a time, from its transfer until it has ended. Another job of the same key that comes meanwhile
gets a folder of its own, and does not wait.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from agents.base import files, state
from agents.base.errors import AgentError
from agents.base.json_file import read_object, write_object
from agents.base.locks import acquire, locked
from agents.base.trees import remove, remove_tree
from agents.context.known_states import KnownStates
from agents.context.patch import Earlier, Patch
from agents.context.subtrees import Summary
from agents.job import results
from agents.job.context_places import LOCK, ROOT

LEASE = "lease.json"
STAGING, TRASH = "staging", "trash"
_STATE, _KNOWN = "state.json", "known"
_GENERATION_BYTES = 6
_PATIENCE_S = 5.0
# A time that no disk with coarse times keeps.
_ODD_NS = 1_700_000_001_123_456_789


class Disk(NamedTuple):
    """What a disk does to names and times: `folds` case; `coarse`: does not keep nanoseconds."""

    folds: bool
    coarse: bool


class ContextFolder:
    """A folder that this process may change: it holds the lock, and the job has the lease."""

    def __init__(self, place: Path, key: str) -> None:
        self._place = place
        self._key = key
        self._state = read_object(place / _STATE)
        for name in (STAGING, TRASH):
            _clear(place / name)
        self.disk = _examine(place)
        if self._state.get("boot") != state.boot_id() or not self.path.is_dir():
            self._start_over()

    @property
    def path(self) -> Path:
        """The folder that an engine reads."""
        return self._place / str(self._state.get("name"))

    @property
    def staging(self) -> Path:
        return self._place / STAGING

    @property
    def trash(self) -> Path:
        return self._place / TRASH

    @property
    def earlier(self) -> Earlier | None:
        """What the folder holds; None where it holds nothing that can be relied on."""
        if not self._state:
            return None
        objects = {digest: Summary(*fields) for digest, fields in self._state.get("objects", {}).items()}
        return Earlier(self._state["tree"], self._state["groups"], objects)

    @contextmanager
    def changing(self, patch: Patch) -> Iterator[Path]:
        """Yield the folder, to be changed as the patch says in the block, or its path where there is none.

        If the block or this process is interrupted, the folder is made anew next time. Raises what `all_facts` raises.
        """
        known = KnownStates(self._place / _KNOWN)
        keeps_name = bool(self._state) and known.admits(patch.facts)
        name = self._state["name"] if keeps_name else self._new_name()
        folder = self.path if self._state else self._place / name
        # Before the first change: a transfer that an object is missing for leaves the folder as it was.
        facts = patch.facts if keeps_name else patch.all_facts()
        self.distrust()
        if keeps_name:
            known.extend(facts)
        else:
            known.replace(facts)
        yield folder
        if name != folder.name:
            folder.rename(self._place / name)
        self._state = {
            "name": name,
            "tree": patch.tree,
            "groups": patch.groups,
            "objects": patch.objects,
            "boot": state.boot_id(),
        }
        write_object(self._place / _STATE, self._state)

    def distrust(self) -> None:
        """Make the folder anew next time, unless `changing` ends well before."""
        remove(self._place / _STATE)

    def empty_trash(self) -> None:
        _clear(self.trash)

    def clean(self) -> None:
        """Remove what `changing` removed from the folder."""
        for name in (STAGING, TRASH):
            with suppress(OSError):
                remove_tree(self._place / name)

    def _start_over(self) -> None:
        """Forget a folder of an earlier boot, which a power cut may have damaged, or that was left half changed."""
        self._state = {}
        self.distrust()
        for entry in list(self._place.iterdir()):
            if entry.name.startswith(self._key):
                entry.rename(self.trash / entry.name)

    def _new_name(self) -> str:
        # Never a name from before, also where a power cut has undone the record of it.
        return f"{self._key}-{os.urandom(_GENERATION_BYTES).hex()}"


@contextmanager
def leased(state_folder: Path, key: str, job: Path) -> Iterator[ContextFolder]:
    """Yield a folder of this key, locked for the block; the job in the folder `job` has it until that job has ended.

    Raises AgentError `busy` where another process has held the job's own folder for 5 s.
    """
    root = state_folder / ROOT
    files.make_folder(root)
    with locked(root, LOCK):
        place, lock = _lease(root / key, job)
    try:
        yield ContextFolder(place, key)
    finally:
        os.close(lock)


def is_free(place: Path, jobs: Path) -> bool:
    """Whether no job has the folder: the job that had it has ended, was forgotten, or ran before the last restart."""
    lease = read_object(place / LEASE)
    if lease.get("boot") != state.boot_id():
        return True
    job = jobs / str(lease.get("job"))
    return not job.is_dir() or results.ended(job) is not None


def try_lock(place: Path) -> int | None:
    """Lock the folder against transfers and removal; None where it is locked. The caller closes the descriptor."""
    fd = files.open_lock(place / LOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _lease(folder: Path, job: Path) -> tuple[Path, int]:
    files.make_folder(folder)
    places = sorted((place for place in folder.iterdir() if place.name.isdecimal()), key=lambda place: int(place.name))
    for place in places:
        files.make_folder(place)
    for place in places:
        if read_object(place / LEASE) == _lease_of(job):
            return place, _lock_soon(place)
    for place in places:
        lock = try_lock(place) if is_free(place, job.parent) else None
        if lock is not None:
            write_object(place / LEASE, _lease_of(job))
            return place, lock
    place = folder / str(int(places[-1].name) + 1 if places else 1)
    place.mkdir(mode=0o700)
    lock = try_lock(place)
    if lock is None:
        raise AgentError("internal", f"{place} was locked as it was made")
    write_object(place / LEASE, _lease_of(job))
    return place, lock


def _lock_soon(place: Path) -> int:
    """Lock the job's own folder: what looks for folders to delete locks each for a moment."""
    fd = files.open_lock(place / LOCK)
    try:
        acquire(fd, place / LOCK, _PATIENCE_S)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lease_of(job: Path) -> dict[str, str]:
    return {"job": job.name, "boot": state.boot_id()}


def _examine(place: Path) -> Disk:
    """Find out what the disk does to names and times."""
    probe = place / "Probe"
    remove(probe)
    probe.touch()
    try:
        os.utime(probe, ns=(_ODD_NS, _ODD_NS))
        return Disk((place / "pROBE").exists(), probe.stat().st_mtime_ns != _ODD_NS)
    finally:
        probe.unlink()


def _clear(folder: Path) -> None:
    remove(folder)
    folder.mkdir(mode=0o700)
