"""Receive a job's context into the folder that engines read, completely or not at all.

It comes on the bulk channel, or, with every object, in one request of the control channel.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agents.base import files, process
from agents.base.errors import AgentError
from agents.base.locks import acquire, locked, try_lock
from agents.base.trees import remove_tree
from agents.context import unreadable
from agents.context.cache import Objects
from agents.context.folders import ContextFolder, leased
from agents.context.known_states import Facts
from agents.context.patch import Patch
from agents.context.transfer import EMPTY, Received, Say, transfer
from agents.context.writer import Tree
from agents.job import closed_context
from agents.job.closed_context import Access
from agents.job.store import CONTEXT, mark_arrived

# Its text is the process that receives the context.
_LOCK = "context.lock"
_END_S = 5.0
_NODE_ID = "node-id"
_NODE_ID_BYTES = 32
_NODE_IDS = re.compile(rb"[0-9a-f]{64}\Z")
# Where docker before 23, and buildx, keep the client's id: below the configuration folder `docker` of a job.
_NODE_ID_FILES = ("docker/.buildNodeID", "docker/buildx/.buildNodeID")


def receive(job: Path, key: str, stream: BinaryIO, say: Say, objects: Objects) -> Received:
    """Receive the offered context into a folder of this key, and make it the job's context in place of an earlier one.

    A transfer that breaks leaves the folder as it was; objects received completely stay in the object store. Raises
    AgentError `started` where the job was already started with its context, `busy` while this process receives this
    context already, `unreadable` where the build could not read it, and what `leased` and `transfer` raise.
    """
    with _alone(job), leased(objects.root.parent, key, job) as folder:
        patch = Patch(Facts(coarse=folder.disk.coarse), folder.earlier, objects.folder, folds=folder.disk.folds)
        access: list[Access | None] = []
        received = transfer(
            stream,
            say,
            objects,
            folder.staging,
            lambda closed: access.append(unreadable.access(job, closed)),
            patch,
            lambda: _give_way(job, folder, patch),
        )
        _withdraw(job)
        _change(folder, patch, objects)
        closed_context.write(job, access[0])
        if access[0] is Access.ARCHIVE:
            # The build opens what is closed for as long as it reads it: one that is killed leaves other modes.
            folder.distrust()
        _hand_over(job, folder.path, _node_id(objects.root.parent))
        folder.clean()
    return received


def receive_empty(job: Path, key: str, objects: Objects) -> None:
    """Make an empty folder the job's context, without a transfer: for a build that takes nothing of its context."""
    opening = json.dumps({"root": EMPTY, "entries": 0, "bytes": 0}).encode() + b"\n"
    receive(job, key, io.BytesIO(opening), lambda _: None, objects)


@contextmanager
def _alone(job: Path) -> Iterator[None]:
    """Hold the job's context against other transfers. One of another process is ended: its connection has broken,
    which the host has not noticed yet, or its coordinator was replaced.
    """
    lock = files.open_lock(job / _LOCK)
    try:
        if not try_lock(lock):
            holder = process.read(job, _LOCK)
            if holder is not None:
                process.end(holder)
            # A process counts as dead when its first thread is; its last one lets the lock go.
            acquire(lock, job / _LOCK, _END_S)
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(process.current(0)._asdict()).encode(), 0)
        _refuse_started(job)
        yield
    finally:
        os.close(lock)


def _refuse_started(job: Path) -> None:
    if process.read(job) is not None:
        raise AgentError("started", f"job '{job.name}' has already been started with its context")


def _withdraw(job: Path) -> None:
    """Take the context from the job while it changes. Under this lock no process of the job is started."""
    with locked(job):
        _refuse_started(job)
        link = job / CONTEXT
        if link.is_dir() and not link.is_symlink():
            remove_tree(link)
        link.unlink(missing_ok=True)


def _give_way(job: Path, folder: ContextFolder, patch: Patch) -> None:
    """Delete what the folder has and the offered context has not: the disk is too small for both."""
    if folder.earlier is None:
        return
    _withdraw(job)
    folder.distrust()
    if patch.is_whole:
        folder.path.rename(folder.trash / "whole")
    else:
        target = Tree(folder.path)
        try:
            patch.remove(target, folder.trash)
        finally:
            target.close()
    folder.empty_trash()


def _change(folder: ContextFolder, patch: Patch, objects: Objects) -> None:
    with folder.changing(patch) as path:
        if patch.is_whole:
            if path.is_dir():
                path.rename(folder.trash / "whole")
            folder.staging.rename(path)
            return
        staging, target = Tree(folder.staging), Tree(path)
        try:
            patch.apply(staging, target, folder.trash, objects.retouch)
        finally:
            target.close()
            staging.close()


def _hand_over(job: Path, folder: Path, node_id: str) -> None:
    for name in _NODE_ID_FILES:
        path = job / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(node_id, encoding="ascii")
    mark_arrived(job)
    # By its own path: BuildKit's key is the path as the client is given it, not where a link leads.
    (job / CONTEXT).symlink_to(folder)


def _node_id(state_folder: Path) -> str:
    """Return the id by which engines know this user of this machine as one client, whatever the job."""
    path = state_folder / _NODE_ID
    with locked(state_folder, "node-id.lock"):
        known = files.read(path) or b""
        # A power cut may have left it empty. docker writes 32 random bytes in hex.
        if not _NODE_IDS.match(known):
            known = os.urandom(_NODE_ID_BYTES).hex().encode()
            files.write_whole(path, known)
    return known.decode("ascii")
