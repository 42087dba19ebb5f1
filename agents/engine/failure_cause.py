"""Tells failures of the Dockerfile (FAILED) from failures of the host (LOST: another host may succeed)."""

from __future__ import annotations

import re
from typing import NamedTuple

from agents.base.disk import Room, shortage_text
from agents.base.errors import Code
from agents.engine.monitor import Evidence

_FULL_BYTES = 16 << 20
# Only this message of QEMU's user mode proves that QEMU crashed.
_QEMU = re.compile(r"qemu: uncaught target signal .*")
# Compiler drivers, shells and the kernel report a killed process in different words.
_KILLED = re.compile(r"exit code: 137\b|\b[Kk]illed\b|\bSIGKILL\b|signal: 9\b")
# gRPC's errors for an engine that goes away during a build (checked only for builds that were not cancelled).
_ENGINE_GONE = re.compile(r"code = (?:Unavailable|Canceled)\b|: context canceled$")


# Prefixes that the engine and its programs put before the error itself.
_PREFIXES = re.compile(
    r"(?:ERROR: |failed to (?:build|solve)(?: with frontend [\w.]+)?: |rpc error: code = Unknown desc = "
    r"|failed to create LLB definition: )*"
)


class Fault(NamedTuple):
    """The result of a failed build, without `seconds` and `log_size`."""

    state: str
    code: Code
    message: str


def classify_failure(said: str, log: str, evidence: Evidence, *, foreign: bool) -> Fault:
    """Return the fault, from the engine's error `said`, the end of the log, and the evidence of the monitor.

    `foreign`: the platform differs from the engine's architecture, so QEMU may have run the build.
    """
    said = _PREFIXES.sub("", said, count=1)
    full = _full(evidence)
    if full:
        return Fault("LOST", "disk", full)
    if evidence.oom_kills and (evidence.engine_died or _KILLED.search(f"{said}\n{log}")):
        return Fault("LOST", "memory", f"the kernel killed a process because memory ran out: {said}")
    if evidence.engine_died or _ENGINE_GONE.search(said):
        return Fault("LOST", "engine", f"the engine stopped during the build: {said}")
    crash = _QEMU.search(log) if foreign else None
    if crash:
        return Fault("LOST", "emulator", f"{crash[0].strip()}: {said}")
    return Fault("FAILED", "build", said)


def _full(evidence: Evidence) -> str:
    least = evidence.least
    return shortage_text(least) if least is not None and is_full(least) else ""


def is_full(room: Room) -> bool:
    """Return whether this room is too little for an engine to work, whatever error it reports."""
    return not room.inodes or room.bytes < _FULL_BYTES
