"""Tells failures of the Dockerfile (FAILED) from failures of the host (LOST: another host may succeed).

What BuildKit says of the step counts first, its exit code among that; then what the host looked like; then the last
lines of that step's program. Other lines of the log count for nothing: programs print what they like.
"""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple

from agents.base.disk import is_short, shortage_text
from agents.base.errors import Code
from agents.engine.failed_step import FailedStep, failed_step
from agents.engine.monitor import Evidence
from agents.engine.network_errors import network_error

# So many lines a program may print after its error, such as advice.
_LAST_LINES = 20


def _any(*patterns: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile("|".join(patterns), flags)


NO_SPACE = _any(
    os.strerror(errno.ENOSPC),
    os.strerror(errno.EDQUOT),
    r"\bE(?:NOSPC|DQUOT)\b",
    r"enough (?:free |disk )?space",
    r"\bdisk (?:is )?full",
    r"more space needed on the",
    flags=re.IGNORECASE,
)
# A file system that was shut down answers EIO.
READ_ONLY = _any(os.strerror(errno.EROFS), os.strerror(errno.EIO), r"\bE(?:ROFS|IO)\b", flags=re.IGNORECASE)
# Compiler drivers, shells and the kernel report a killed process in different words.
_KILLED = _any(r"exit code: 137\b", r"\b[Kk]illed\b", r"\bSIGKILL\b", r"signal: 9\b")
# gRPC's errors for an engine, or its containerd, that goes away during a build (one that was not cancelled).
ENGINE_GONE = _any(
    r"code = (?:Unavailable|Canceled)\b",
    r": context canceled$",
    r"containerd\.sock",
    r"error reading from server: EOF",
    r"transport is closing",
    r"grpc: the client connection is closing",
    r": unavailable$",
)
# A process has no greater status; runc's status is that of a program that ran, 1 for an error of its own.
_MAX_STATUS, _RUNC_FAILED = 255, 1
# What runc prints as the only output of a step whose program it could not start.
_OF_RUNC = _any(r"runc run failed: ", r"(?:container|standard_init)_linux\.go:\d+: ", r"exec /\S+: exec format error")
# What BuildKit's executor says of such a step.
_NOT_STARTED = _any(
    r"unable to start container process",
    r"runc did not terminate succ?essfully",
    r"runc run failed",
    r"failed to create (?:shim|task)",
    r"starting container process caused",
    r"fork/exec \S*runc",
    r'exec: "runc"',
    r"OCI runtime",
)
# Why a program can be started on no host: runc, libcontainer/standard_init_linux.go and init_linux.go.
_NO_PROGRAM = _any(
    r'exec: "(?!runc")[^"]*": ',
    r"exec (?!\S*runc)/?\S*: ",
    r"stat \S+: no such file",
    r"chdir to cwd",
    r"unable to find (?:user|group)",
    r"mkdir \S+: not a directory",
    r"no such file or directory: unknown",
    r"exec user process caused",
    r'mounting "[^"]*" to rootfs',
)
_NO_INTERPRETER = re.compile(r"exec format error", re.IGNORECASE)
# The engine's own requests, for `# syntax`, a base that is not held, ADD of an address: Go's net and net/http, and
# containerd's resolver.
_NOT_RESOLVED = _any(
    r"dial tcp",
    r"failed to do request",
    r"no such host",
    r"server misbehaving",
    r"i/o timeout",
    r"TLS handshake timeout",
    r"connection re(?:fused|set)",
    r"network is unreachable",
    r"no route to host",
    r"Client\.Timeout exceeded",
    r"x509: ",
    r"unexpected EOF",
    r"net/http: request canceled",
    r"(?:status|code|response)[^\n]{0,300}\b(?:429|50[0234])\b",
    r"(?i:too ?many ?requests)",
)
# Held bases have a registry that can never answer (`coordinator/domain/dockerfile/pinning.py`).
_HELD = "localhost:1/"
# QEMU's user mode says this of a program that died in its hands, also of one that was meant to: linux-user/signal.c.
_QEMU = re.compile(r"qemu: uncaught target signal (\d+)")
# What the programs print that ran it.
_CRASH = _any(
    r"(?:\S*sh: .*|\s*)(?:Segmentation fault|Aborted|Illegal instruction|Bus error|Trace/breakpoint trap)",
    r".*\b(?:[Ee]rror|status|code|signal)[ :=-]+(?:4|6|7|8|11|13[2-9])\b",
    r".*(?:SIGSEGV|SIGABRT|SIGILL|SIGBUS|SIGFPE|core dumped)",
)
# Prefixes that the engine and its programs put before the error itself.
_PREFIXES = re.compile(
    r"(?:ERROR: |failed to (?:build|solve)(?: with frontend [\w.]+)?: |rpc error: code = Unknown desc = "
    r"|failed to create LLB definition: |error during connect: (?:Post|Get) \"[^\"]*\": )*"
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
    step = failed_step(log)
    of_host = _host_fault(said, step, evidence)
    if of_host:
        return of_host
    if step is None or not _has_run(step):
        return _engine_fault(said, step, foreign=foreign)
    crash = _emulator_crash(step) if foreign else ""
    if crash:
        return Fault("LOST", "emulator", f"{crash}: {said}")
    network = network_error(step)
    return Fault("FAILED", "network", f"{network}: {said}") if network else Fault("FAILED", "build", said)


def _has_run(step: FailedStep) -> bool:
    """Return whether a program of this step ended, and not runc in its place, which has status 1 or was killed."""
    if step.exit_code is None or step.exit_code > _MAX_STATUS:
        return False
    return step.exit_code != _RUNC_FAILED or not step.lines or not _OF_RUNC.match(step.lines[0])


def _host_fault(said: str, step: FailedStep | None, evidence: Evidence) -> Fault | None:
    """Return the fault that the state of the host explains, together with what was said."""
    words = "\n".join([said, step.error, *step.lines[-_LAST_LINES:]]) if step else said
    least = evidence.least
    if evidence.read_only and (evidence.engine_died or READ_ONLY.search(words)):
        return Fault("LOST", "read_only", f"the file system of {evidence.read_only} is read-only: {said}")
    if least is not None and is_short(least) and (evidence.engine_died or NO_SPACE.search(words)):
        return Fault("LOST", "disk", shortage_text(least))
    if evidence.oom_kills and (evidence.engine_died or _KILLED.search(words)):
        return Fault("LOST", "memory", f"the kernel killed a process because memory ran out: {said}")
    if evidence.engine_died:
        return Fault("LOST", "engine", f"the engine stopped during the build: {said}")
    return None


def _engine_fault(said: str, step: FailedStep | None, *, foreign: bool) -> Fault:
    """Return the fault of a build in which no program of a step ended: the engine itself reports what went wrong."""
    error = "\n".join([said, step.error, *step.lines]) if step else said
    if ENGINE_GONE.search(said):
        return Fault("LOST", "engine", f"the engine stopped during the build: {said}")
    if _NOT_STARTED.search(error) or (step is not None and step.exit_code is not None):
        if foreign and _NO_INTERPRETER.search(error):
            return Fault("LOST", "emulator", said)
        return Fault("FAILED", "build", said) if _NO_PROGRAM.search(error) else Fault("LOST", "engine", said)
    if _NOT_RESOLVED.search(said) and _HELD not in said:
        return Fault("LOST", "resolve", said)
    return Fault("FAILED", "build", said)


def _emulator_crash(step: FailedStep) -> str:
    """Return QEMU's words for the crash that ended this step; "" where the step ended of something else."""
    ended_by = step.ended_by(lambda line: bool(_QEMU.search(line)), _CRASH)
    crashed = next((match for line in reversed(step.lines) if (match := _QEMU.search(line))), None)
    if not ended_by and crashed and step.exit_code == 128 + int(crashed[1]):
        # What ran the program has passed its status on; it may print more before it ends.
        return crashed.string.strip()
    if not ended_by and step.lines and _NO_INTERPRETER.search(step.lines[-1]):
        return step.lines[-1].strip()
    return ended_by
