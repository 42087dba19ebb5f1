"""Starting a job: a slot, a detached process, and an answer only when that process has said who it is."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from agents.base import process
from agents.base.errors import AgentError
from agents.base.locks import locked
from agents.base.slots import Slot
from agents.job import results
from agents.job.store import has_arrived
from agents.server import supervisor

TRACE = "trace"
# A Pi Zero that swaps takes many seconds to start an interpreter.
_PATIENCE = 60.0
_LONGEST_ANSWER = 4096


def start(folder: Path, command: Sequence[str], take_slot: Callable[[], Slot]) -> dict[str, object]:
    """Run `command` for this folder, detached, unless that was done before: `{"pid", "slot"}` of its process.

    `take_slot` is called only where there is something to start. A job that was cancelled before it ran answers 0
    for both. Raises AgentError `no_context`, and what `take_slot` and the process itself raise.
    """
    with locked(folder):
        known = process.read(folder)
        if known is None and results.read(folder) is None:
            if not has_arrived(folder):
                raise AgentError("no_context", f"the context of job '{folder.name}' has not arrived")
            slot = take_slot()
            try:
                _launch(folder, command, slot)
            finally:
                # The process has a copy of its own; the lock lives as long as that.
                os.close(slot.fd)
            known = process.read(folder)
        return {"pid": known.pid, "slot": known.slot} if known else {"pid": 0, "slot": 0}


def _launch(folder: Path, command: Sequence[str], slot: Slot) -> None:
    answer, ready = os.pipe()
    try:
        try:
            with (folder / TRACE).open("ab") as trace:
                # Its own session, and none of our three descriptors: an SSH channel stays open until the last copy
                # of them is closed.
                child = subprocess.Popen(
                    [*command, *supervisor.arguments(folder, slot, ready)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=trace,
                    pass_fds=(slot.fd, ready),
                    start_new_session=True,
                )
        finally:
            os.close(ready)
        reply = _read(answer)
    finally:
        os.close(answer)
    # What we started goes away as soon as it has forked; after a silence it may be stuck.
    if reply is None:
        child.kill()
    child.wait()
    _judge(folder, reply)


def _read(answer: int) -> bytes | None:
    """What the process said: nothing where it died, None where it is silent for too long."""
    if not select.select([answer], [], [], _PATIENCE)[0]:
        return None
    return os.read(answer, _LONGEST_ANSWER)


def _judge(folder: Path, reply: bytes | None) -> None:
    if reply is None:
        raise AgentError("internal", f"the job's process said nothing for {_PATIENCE:.0f} s")
    if not reply:
        lines = (folder / TRACE).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise AgentError("internal", f"the job's process died at once: {lines[-1] if lines else 'without a word'}")
    said = json.loads(reply)
    if said:
        raise AgentError(said["code"], said["message"])
