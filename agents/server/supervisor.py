"""The detached process of one job: it holds the slot, runs the build and writes the result.

It survives the connection and the coordinator. No process that it started outlives it.
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
from agents.job import results, spec

_HEARTBEAT_S = 2.0


class Build(Protocol):
    """One build on one engine.

    `run` returns a result as on the wire, without `seconds` and `log_size`, which the supervisor adds. `cancel` is
    called from another thread, at any time, also before `run`, and makes `run` return soon. `clean_up` is called last
    for a build that was cancelled or lost, `drop_old_records` for one that is built: in a process of its own, when the
    result is written and the job's folder may be gone. Both may take long.
    """

    def run(self) -> dict[str, Any]: ...
    def cancel(self) -> None: ...
    def clean_up(self) -> None: ...
    def drop_old_records(self) -> None: ...


Prepare = Callable[[spec.Spec, Path, BinaryIO], Build]


def arguments(folder: Path, slot: Slot, ready: int) -> list[str]:
    """Return the arguments of `main`: job folder, slot number, slot descriptor, and the descriptor to report to."""
    return [str(folder), str(slot.number), str(slot.fd), str(ready)]


def main(words: Sequence[str], prepare: Prepare | None = None) -> int:
    """Run the job's process with these `arguments`. Returns in the short-lived parent only.

    `prepare` is that of `agents.engine.engines`, unless it is given.
    """
    folder, slot, held, ready = Path(words[0]), *(int(number) for number in words[1:4])
    if os.fork():
        return 0
    os.setsid()
    for fd in (held, ready):
        # The engine's programs must not inherit the slot: a program that hangs would hold it forever.
        os.set_inheritable(fd, False)  # noqa: FBT003 - its only form
    cancelling = _Cancelling()
    _announce(folder, slot, ready)
    threading.Thread(target=_beat, args=(folder,), daemon=True).start()
    result = _run(folder, prepare, cancelling)
    results.finish(folder, result)
    if result["state"] in {"CANCELLED", "LOST"}:
        _in_own_group(cancelling.clean_up, held)
    if result["state"] == "BUILT":
        _in_own_group(cancelling.drop_old_records, held)
    # This process leads the group: the signal ends it and everything it started.
    os.killpg(0, signal.SIGKILL)
    raise AssertionError


def _in_own_group(work: Callable[[], None], held: int) -> None:
    """Run `work` in a child outside the job's process group: the job can end now, with its slot and children."""
    child = os.fork()
    if child:
        # Set by the parent, so that it is in effect before the group is killed.
        os.setpgid(child, child)
        return
    try:
        os.close(held)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
    finally:
        os._exit(0)


class _Cancelling:
    """Calls `cancel` on SIGTERM, from a thread: a signal handler may interrupt any code."""

    def __init__(self) -> None:
        self.asked = False
        self._build: Build | None = None
        self._lock = threading.Lock()
        asked, ask = os.pipe()
        signal.signal(signal.SIGTERM, lambda *_: os.write(ask, b"."))
        threading.Thread(target=self._wait, args=(asked,), daemon=True).start()

    def run_build(self, build: Build) -> dict[str, Any]:
        """Run the build and return its result, which may come early when the job is cancelled."""
        with self._lock:
            self._build = build
            if self.asked:
                return {"state": "CANCELLED"}
        return build.run()

    def clean_up(self) -> None:
        """Clean up after a build that was cancelled or lost, once its result is written."""
        if self._build is not None:
            self._build.clean_up()

    def drop_old_records(self) -> None:
        """Remove what the build has replaced in the engine's build cache, once its result is written."""
        if self._build is not None:
            self._build.drop_old_records()

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
        time.sleep(_HEARTBEAT_S)
        os.utime(folder / results.HEARTBEAT)


def _run(folder: Path, prepare: Prepare | None, cancelling: _Cancelling) -> dict[str, Any]:
    began = time.monotonic()
    if prepare is None:
        # Imported once the job is announced: the host answers `start` meanwhile.
        from agents.engine import engines

        prepare = engines.prepare
    with (folder / results.LOG).open("ab", buffering=0) as log:
        try:
            result = cancelling.run_build(prepare(spec.read(folder), folder, log))
        except Exception as error:  # noqa: BLE001 - the boundary: a job always gets a result
            result = {"state": "LOST", **_failure(folder, error)}
        size = log.tell()
    if cancelling.asked and result["state"] != "BUILT":
        result = {"state": "CANCELLED"}
    return {**result, "seconds": round(time.monotonic() - began, 1), "log_size": size}


def _failure(folder: Path, error: Exception) -> dict[str, str]:
    known = explain(error, folder)
    return {"code": known.code, "message": known.message}
