"""Which error codes an agent may answer each operation with, and the exception for each. See `agents/README.md`.

A host ends its own attempts only, whatever it answers: every code outside the table is LostError `protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from coordinator.domain.causes import RULES, Cause, Retry, rule
from coordinator.errors import ArchloomError, Exit, LostError
from coordinator.hosts.agent import replies
from coordinator.hosts.agent.replies import Ended, EndState, Finite, Words

_START = "start"
_ALWAYS = frozenset({Cause.BUSY, Cause.DISK, Cause.INTERNAL, Cause.READ_ONLY})
_OF_JOB = _ALWAYS | {Cause.UNKNOWN_JOB}
# `bad_request`, `started` and `changed` are in no row: the coordinator compares every object with its digest while it
# sends it, so they come of a defect, of damage on the way, or of a host that lies.
CODES: Mapping[str, frozenset[str]] = {
    "probe": _ALWAYS | {"state"},
    "create": _ALWAYS | {Cause.SPEC_DIFFERS},
    "context": _OF_JOB | {Cause.CUT, Cause.CASE, Cause.NO_CONTEXT, Cause.UNREADABLE},
    "lacking": _OF_JOB | {Cause.ENGINE},
    "pull": _OF_JOB | {Cause.ENGINE, Cause.BASE, Cause.TUNNEL, Cause.LOOPBACK, "cancelled"},
    _START: _OF_JOB | {Cause.ENGINE, Cause.NO_CONTEXT},
    "follow": _OF_JOB | {Cause.VANISHED, "cancelled"},
    "push": _OF_JOB | {Cause.NOT_BUILT, Cause.REFUSED, Cause.ENGINE, Cause.TUNNEL, Cause.LOOPBACK, "cancelled"},
    "cancel": _OF_JOB,
    "forget": _ALWAYS | {Cause.ENGINE},
    "jobs": _ALWAYS,
    "prune": _ALWAYS | {Cause.ENGINE},
    "hang_up": _ALWAYS,
    "ping": _ALWAYS,
    "image": _OF_JOB | {Cause.NOT_BUILT, Cause.ENGINE},
    "load": _OF_JOB | {Cause.CUT, Cause.BASE, Cause.ENGINE},
    "purge": _ALWAYS | {Cause.ENGINE, "state"},
}


class HostBusyError(ArchloomError):
    """Every slot of the host is held: the job waits on the coordinator, not on the host.

    `holder` is the holder of a slot, `since` when it took the slot, in host epoch seconds.
    """

    exit_code = Exit.LOST

    def __init__(self, message: str, *, holder: str, since: float) -> None:
        super().__init__(message, code=Cause.BUSY)
        self.holder = holder
        self.since = since


class _Error(BaseModel, strict=True, frozen=True):
    code: Words
    message: Words


class _Holder(BaseModel, strict=True, frozen=True):
    holder: Words
    since: Finite


def outcome(host: str, op: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `ok` member of an answer to `op`. Raises `failure` of the `error` member where there is one."""
    if "error" in body:
        raise failure(host, op, replies.read(host, body, dict[str, Any], "error"))
    return replies.read(host, body, dict[str, Any], "ok")


def failure(host: str, op: str, fields: Mapping[str, Any]) -> ArchloomError:
    """Return the exception for an `error` member: HostBusyError for `busy` of `start`, else LostError.

    Its code is the agent's, or `protocol` where the table does not have that code for `op`.
    """
    error = replies.read(host, fields, _Error)
    if error.code not in CODES[op]:
        message = f"host '{host}': its agent refused '{op}' ({error.code}): {error.message}"
        return LostError(message, hint=rule(Cause.PROTOCOL).hint, code=Cause.PROTOCOL)
    message = f"host '{host}': {error.message}"
    if error.code == Cause.BUSY and op == _START:
        busy = replies.read(host, fields, _Holder)
        return HostBusyError(message, holder=busy.holder, since=busy.since)
    return LostError(message, hint=rule(error.code).hint, code=error.code)


def ended(host: str, fields: Mapping[str, Any]) -> Ended:
    """Return the result of a job. Raises LostError `protocol`, also for a code that no job ends with on a host."""
    end = replies.ended(host, fields)
    if end.code and not _may_end(end.state, end.code):
        raise replies.unexpected(host, f"a job is {end.state} ({end.code}): {end.message:.200}")
    return end


def _may_end(state: EndState, code: str) -> bool:
    """Whether a job may end so on its host: with a cause that is not the registry's, and is no verdict where lost."""
    if code not in RULES:
        return False
    verdict = rule(code)
    if state is EndState.FAILED:
        return verdict.exit_code is Exit.BUILD_FAILED
    return verdict.retry is not Retry.NO_HOST
