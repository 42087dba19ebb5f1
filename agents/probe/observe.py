"""Collects the observation of this host. The coordinator turns its raw findings into facts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agents.base import slots, state
from agents.base.errors import AgentError
from agents.engine import docker_clis
from agents.engine.engine_api import find_socket
from agents.probe import emulation
from agents.probe import engine as probe_engine
from agents.probe import machine as probe_machine

_SHARED_SLOTS = "/run/lock"
# A healthy host answers in a fraction of a second; these limits allow for a loaded host on an SD card.
_ENGINE_TIMEOUT_S = 5.0
_CLIS_TIMEOUT_S = 15.0

T = TypeVar("T")


def observe(environ: Mapping[str, str] = os.environ, engine_patience: float = _ENGINE_TIMEOUT_S) -> dict[str, Any]:
    """Return the observation, within 20 s. An engine that does not answer in `engine_patience` seconds is `down`."""
    began = time.time()
    engine = _beside(lambda: probe_engine.engine(environ))
    folder = state.open_state(environ)
    installed = _beside(lambda: docker_clis.installed(environ, folder))
    machine = probe_machine.machine()
    runs = emulation.runs(environ)
    engine_report = engine(engine_patience) or _hung(environ)
    slots_path = slots.spoilt(Path(_SHARED_SLOTS), str(engine_report.get("id") or ""))
    return {
        "time": began,
        **machine,
        "linger": probe_machine.linger() if engine_report.get("rootless") else None,
        "engine": engine_report,
        "clis": [probe_engine.command_line(cli, engine_report) for cli in installed(_CLIS_TIMEOUT_S) or ()],
        "binfmt": emulation.binfmt(),
        "runs": runs,
        "shared_slots": not slots_path,
        "spoilt_slots": slots_path or None,
        "state_root": str(folder),
        "state_free": probe_machine.disk(Path(folder))[0],
    }


def _hung(environ: Mapping[str, str]) -> dict[str, Any]:
    try:
        path = find_socket(environ)
    except AgentError as error:
        return probe_engine.no_answer("", "odd", error.message)
    message = f"the engine at {path} accepts connections, but does not answer"
    return probe_engine.no_answer(path, "down", message)


def _beside(ask: Callable[[], T]) -> Callable[[float], T | None]:
    """Run `ask` in a thread. The returned function waits up to that many seconds for its answer, else returns None."""
    answers: list[T] = []
    # A call that hangs cannot be ended: a daemon thread does not keep the agent from exiting.
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()

    def result(patience: float) -> T | None:
        thread.join(patience)
        return answers[0] if answers else None

    return result
