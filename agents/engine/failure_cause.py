"""Whose fault a failed build is: the Dockerfile's (FAILED), or the host's (LOST: it may succeed elsewhere)."""

from __future__ import annotations

import re
from typing import NamedTuple

from agents.base.disk import Room
from agents.base.errors import Code
from agents.engine.monitor import Evidence

_FULL = 16 << 20
# Only what QEMU's user mode prints says that it was QEMU.
_QEMU = re.compile(r"qemu: uncaught target signal .*")
# A compiler's driver, a shell and the kernel have different words for a process that was killed.
_KILLED = re.compile(r"exit code: 137\b|\b[Kk]illed\b|\bSIGKILL\b|signal: 9\b")
# gRPC's names for an engine that goes away with a build under way (it is only asked where nobody cancelled).
_GONE = re.compile(r"code = (?:Unavailable|Canceled)\b|: context canceled$")


# What the engine and its programs put before the sentence that counts.
_WRAPPING = re.compile(
    r"(?:ERROR: |failed to (?:build|solve)(?: with frontend [\w.]+)?: |rpc error: code = Unknown desc = "
    r"|failed to create LLB definition: )*"
)


class Fault(NamedTuple):
    """A failed build's result, without its measures."""

    state: str
    code: Code
    message: str


def judge(said: str, log: str, evidence: Evidence, *, foreign: bool) -> Fault:
    """The fault, from the engine's own sentence, the end of the log, and what was seen meanwhile.

    `foreign` says that the platform is not the engine's own architecture, so that QEMU may have had a part in it.
    """
    said = _WRAPPING.sub("", said, count=1)
    full = _full(evidence)
    if full:
        return Fault("LOST", "disk", full)
    if evidence.oom_kills and (evidence.engine_died or _KILLED.search(f"{said}\n{log}")):
        return Fault("LOST", "memory", f"the kernel killed a process for want of memory: {said}")
    if evidence.engine_died or _GONE.search(said):
        return Fault("LOST", "engine", f"the engine went away during the build: {said}")
    crash = _QEMU.search(log) if foreign else None
    if crash:
        return Fault("LOST", "emulator", f"{crash[0].strip()}: {said}")
    return Fault("FAILED", "build", said)


def _full(evidence: Evidence) -> str:
    least = evidence.least
    if least is None or not is_full(least):
        return ""
    if not least.inodes:
        return f"no file names (inodes) left below {least.folder}"
    return f"no space left below {least.folder}: {least.bytes >> 20} MiB free"


def is_full(room: Room) -> bool:
    """Whether an engine with this room fails for want of it, whatever it says."""
    return not room.inodes or room.bytes < _FULL
