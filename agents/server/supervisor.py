"""The detached process of one job: it holds the slot, runs the engine's driver and writes the result.

It survives the connection and the coordinator. Nothing it started outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from agents.base import process
from agents.base.failures import explain
from agents.base.slots import Slot
from agents.engine import engines
from agents.job import results, spec

_BEAT = 2.0


class Build(Protocol):
    """One build on one engine.

    `run` returns a result as on the wire; its `seconds` and `log_size` are measured here. `cancel` comes from another
    thread, at any time, also before `run`, and makes it return soon. `clean_up` comes last for one that was
    cancelled: in another process, when the result is known and the job's folder may be gone. It may take its time.
    """

    def run(self) -> dict[str, Any]: ...
    def cancel(self) -> None: ...
    def clean_up(self) -> None: ...


Prepare = Callable[[spec.Spec, Path, BinaryIO], Build]


def arguments(folder: Path, slot: Slot, ready: int) -> list[str]:
    """The command line of `main`: the job's folder, its slot by number and descriptor, the descriptor to report to."""
    return [str(folder), str(slot.number), str(slot.fd), str(ready)]


def main(words: Sequence[str], prepare: Prepare = engines.prepare) -> int:
    """The job's process, from its `arguments`. Returns in the short-lived parent only."""
    folder, slot, held, ready = Path(words[0]), *(int(number) for number in words[1:4])
    if os.fork():
        return 0
    os.setsid()
    for fd in (held, ready):
        # The engine's programs must not inherit the slot: one that hangs on would hold it for ever.
        os.set_inheritable(fd, False)  # noqa: FBT003 - its only form
    cancelling = _Cancelling()
    _announce(folder, slot, ready)
    threading.Thread(target=_beat, args=(folder,), daemon=True).start()
    result = _run(folder, prepare, cancelling)
    results.finish(folder, result)
    if result["state"] == "CANCELLED":
        _apart(cancelling.clean_up, held)
    # This process leads the group: the last of it goes with what it started.
    os.killpg(0, signal.SIGKILL)
    raise AssertionError


def _apart(work: Callable[[], None], held: int) -> None:
    """Have `work` done by a process outside the job's group: this one ends now, with its slot and all it started."""
    child = os.fork()
    if child:
        # Set from here, so that it is done before the group is killed.
        os.setpgid(child, child)
        return
    try:
        os.close(held)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
    finally:
        os._exit(0)


class _Cancelling:
    """TERM to `cancel`: a signal handler runs in the middle of anything, so a thread does the work."""

    def __init__(self) -> None:
        self.asked = False
        self._build: Build | None = None
        self._lock = threading.Lock()
        asked, ask = os.pipe()
        signal.signal(signal.SIGTERM, lambda *_: os.write(ask, b"."))
        threading.Thread(target=self._wait, args=(asked,), daemon=True).start()

    def carry(self, build: Build) -> dict[str, Any]:
        """The build's result, which may come early when the job is cancelled."""
        with self._lock:
            self._build = build
            if self.asked:
                return {"state": "CANCELLED"}
        return build.run()

    def clean_up(self) -> None:
        """What is left to do of a cancelled build when nobody waits any more."""
        if self._build is not None:
            self._build.clean_up()

    def _wait(self, asked: int) -> None:
        os.read(asked, 1)
        with self._lock:
            self.asked = True
            build = self._build
        if build is not None:
            build.cancel()


def _announce(folder: Path, slot: int, ready: int) -> None:
    try:
        results.reserve(folder)
        (folder / results.HEARTBEAT).touch()
        process.write(folder, process.current(slot))
    except Exception as error:
        _say(ready, _failure(folder, error))
        raise
    _say(ready, {})


def _say(ready: int, what: dict[str, str]) -> None:
    os.write(ready, json.dumps(what).encode())
    os.close(ready)


def _beat(folder: Path) -> None:
    while True:
        time.sleep(_BEAT)
        os.utime(folder / results.HEARTBEAT)


def _run(folder: Path, prepare: Prepare, cancelling: _Cancelling) -> dict[str, Any]:
    began = time.monotonic()
    with (folder / results.LOG).open("ab", buffering=0) as log:
        try:
            result = cancelling.carry(prepare(spec.read(folder), folder, log))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever happened, there is a result
            result = {"state": "LOST", **_failure(folder, error)}
        size = log.tell()
    if cancelling.asked and result["state"] != "BUILT":
        result = {"state": "CANCELLED"}
    return {**result, "seconds": round(time.monotonic() - began, 1), "log_size": size}


def _failure(folder: Path, error: Exception) -> dict[str, str]:
    known = explain(error, folder)
    return {"code": known.code, "message": known.message}
