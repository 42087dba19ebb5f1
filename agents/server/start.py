"""Start a job: take a slot, start the detached process, and answer only once that process has reported its identity."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from agents.base import process
from agents.base.errors import AgentError
from agents.base.locks import locked
from agents.base.slots import Slot
from agents.job import results
from agents.job.store import has_arrived
from agents.server import supervisor
from agents.server.fork_server import NOT_FORKED, ForkServer

TRACE = "trace"
# A Raspberry Pi Zero that swaps takes many seconds to start a Python interpreter. The coordinator waits for 60 s.
_REPORT_TIMEOUT_S = 45.0
_MAX_REPORT_BYTES = 4096


def start(
    folder: Path, fork_server: ForkServer | None, command: Sequence[str], take_slot: Callable[[], Slot]
) -> dict[str, object]:
    """Start the process of the job in this folder, unless it was started before. Return its `{"pid", "slot"}`.

    `command` starts it where there is no fork server, or where that has died or cannot fork.
    `take_slot` is called only where there is a process to start. Both values are 0 where the job was cancelled before
    it ran. Raises AgentError `no_context` where the context has not arrived, and what `take_slot` and the process
    itself raise.
    """
    with locked(folder):
        known = process.read(folder)
        if known is None and results.read(folder) is None:
            if not has_arrived(folder):
                raise AgentError("no_context", f"the context of job '{folder.name}' has not arrived")
            slot = take_slot()
            try:
                _launch(folder, fork_server, command, slot)
            finally:
                # The process has its own copy of the descriptor, and the lock lives as long as that copy.
                os.close(slot.fd)
            known = process.read(folder)
        return {"pid": known.pid, "slot": known.slot} if known else {"pid": 0, "slot": 0}


def _launch(folder: Path, fork_server: ForkServer | None, command: Sequence[str], slot: Slot) -> None:
    child: subprocess.Popen[bytes] | None = None
    answer, ready = os.pipe()
    try:
        try:
            with (folder / TRACE).open("ab") as trace:
                if fork_server is None or not fork_server.start(folder, slot, ready, trace.fileno()):
                    child = _run(command, folder, slot, ready, trace)
        finally:
            os.close(ready)
        reply = _read(answer)
    finally:
        os.close(answer)
    if child is not None:
        # It exits as soon as it has forked the job's process; after a timeout it may be stuck.
        if reply is None:
            child.kill()
        child.wait()
    if reply == NOT_FORKED:
        _launch(folder, None, command, slot)
    else:
        _raise_failure(folder, reply)


def _run(command: Sequence[str], folder: Path, slot: Slot, ready: int, trace: BinaryIO) -> subprocess.Popen[bytes]:
    # A session of its own, and none of our stdin, stdout and stderr: an SSH channel stays open until the last copy of
    # them is closed.
    return subprocess.Popen(
        [*command, *supervisor.arguments(folder, slot, ready)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=trace,
        pass_fds=(slot.fd, ready),
        start_new_session=True,
    )


def _read(answer: int) -> bytes | None:
    """Return what the process reported: empty where it died, None after a timeout."""
    if not select.select([answer], [], [], _REPORT_TIMEOUT_S)[0]:
        return None
    return os.read(answer, _MAX_REPORT_BYTES)


def _raise_failure(folder: Path, reply: bytes | None) -> None:
    if reply is None:
        raise AgentError("internal", f"the job's process reported nothing for {_REPORT_TIMEOUT_S:.0f} s")
    if not reply:
        lines = (folder / TRACE).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise AgentError("internal", f"the job's process died at once: {lines[-1] if lines else 'without output'}")
    failure = json.loads(reply)
    if failure:
        raise AgentError(failure["code"], failure["message"])
