"""The states of an attempt, a job and a target: three tables. No other file defines states or transitions.

Rule 1: every state and every transition is in this file.
Rule 2: this file does not know what the actions do, only which transitions are allowed.

Theory of operation. A *job* is one target for one platform; an *attempt* is one try of a job on one host. A PENDING job
gets an attempt when a host has a free slot, or will have one for it; an ACTIVE one gets a second attempt (HEDGE) when
the host of its first one is away. The ends of the attempts decide the state of the job; the ends of the jobs decide the
state of the target. A state is committed before the action it allows begins. A coordinator that restarts after a crash
therefore finds exactly the actions that may be under way, and every one of them is safe to repeat.

A lost push, and a registry that fails, return the attempt to BUILT: the host still holds the image, and it is built
again only if the host is lost. Where the run gives up, the attempt stays BUILT, and a later run may take it over
(ADOPT). FAILED means a fault of the Dockerfile, or a result that differs from the request; LOST means a fault of a
host, a network, an engine, a disk, an emulator or a registry. A terminal state has an empty row.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar


class AttemptState(StrEnum):
    ASSIGNED = "assigned"
    SENDING = "sending"
    BUILDING = "building"
    BUILT = "built"
    PUSHING = "pushing"
    PUSHED = "pushed"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"


class AttemptEvent(StrEnum):
    ADOPT = "adopt"
    SEND = "send"
    SENT = "sent"
    BUILT = "built"
    PUSH = "push"
    PUSHED = "pushed"
    PUSH_LOST = "push_lost"
    FAIL = "fail"
    LOSE = "lose"
    CANCEL = "cancel"


class JobState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    VERIFIED = "verified"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class JobEvent(StrEnum):
    ASSIGN = "assign"
    HEDGE = "hedge"
    REUSE = "reuse"
    VERIFY = "verify"
    RETRY = "retry"
    FAIL = "fail"
    LOSE = "lose"
    CANCEL = "cancel"
    SKIP = "skip"


class TargetState(StrEnum):
    OPEN = "open"
    READY = "ready"
    INDEXED = "indexed"
    TAGGING = "tagging"
    PUBLISHED = "published"
    INCOMPLETE = "incomplete"
    CONFLICT = "conflict"


class TargetEvent(StrEnum):
    COMPLETE = "complete"
    GIVE_UP = "give_up"
    INDEX = "index"
    TAG = "tag"
    PUBLISH = "publish"
    DISAGREE = "disagree"


_A, _AE = AttemptState, AttemptEvent
ATTEMPT: dict[AttemptState, dict[AttemptEvent, AttemptState]] = {
    _A.ASSIGNED: {_AE.SEND: _A.SENDING, _AE.ADOPT: _A.BUILT, _AE.LOSE: _A.LOST, _AE.CANCEL: _A.CANCELLED},
    _A.SENDING: {_AE.SENT: _A.BUILDING, _AE.FAIL: _A.FAILED, _AE.LOSE: _A.LOST, _AE.CANCEL: _A.CANCELLED},
    _A.BUILDING: {_AE.BUILT: _A.BUILT, _AE.FAIL: _A.FAILED, _AE.LOSE: _A.LOST, _AE.CANCEL: _A.CANCELLED},
    _A.BUILT: {_AE.PUSH: _A.PUSHING, _AE.LOSE: _A.LOST, _AE.CANCEL: _A.CANCELLED},
    _A.PUSHING: {
        _AE.PUSHED: _A.PUSHED,
        _AE.PUSH_LOST: _A.BUILT,
        _AE.LOSE: _A.LOST,
        _AE.CANCEL: _A.CANCELLED,
    },
    _A.PUSHED: {_AE.PUSH_LOST: _A.BUILT, _AE.FAIL: _A.FAILED, _AE.LOSE: _A.LOST, _AE.CANCEL: _A.CANCELLED},
    _A.FAILED: {},
    _A.LOST: {},
    _A.CANCELLED: {},
}

_J, _JE = JobState, JobEvent
JOB: dict[JobState, dict[JobEvent, JobState]] = {
    _J.PENDING: {
        _JE.ASSIGN: _J.ACTIVE,
        _JE.REUSE: _J.VERIFIED,
        _JE.LOSE: _J.LOST,
        _JE.CANCEL: _J.CANCELLED,
        _JE.SKIP: _J.SKIPPED,
    },
    _J.ACTIVE: {
        _JE.HEDGE: _J.ACTIVE,
        _JE.VERIFY: _J.VERIFIED,
        _JE.RETRY: _J.PENDING,
        _JE.FAIL: _J.FAILED,
        _JE.LOSE: _J.LOST,
        _JE.CANCEL: _J.CANCELLED,
    },
    _J.VERIFIED: {},
    _J.FAILED: {},
    _J.LOST: {},
    _J.CANCELLED: {},
    _J.SKIPPED: {},
}

_T, _TE = TargetState, TargetEvent
TARGET: dict[TargetState, dict[TargetEvent, TargetState]] = {
    _T.OPEN: {_TE.COMPLETE: _T.READY, _TE.GIVE_UP: _T.INCOMPLETE},
    _T.READY: {_TE.INDEX: _T.INDEXED, _TE.GIVE_UP: _T.INCOMPLETE},
    _T.INDEXED: {_TE.TAG: _T.TAGGING, _TE.GIVE_UP: _T.INCOMPLETE},
    _T.TAGGING: {_TE.PUBLISH: _T.PUBLISHED, _TE.DISAGREE: _T.CONFLICT, _TE.GIVE_UP: _T.INCOMPLETE},
    _T.PUBLISHED: {},
    _T.INCOMPLETE: {},
    _T.CONFLICT: {},
}


class ForbiddenTransitionError(Exception):
    """A bug: an event came in a state whose row does not list it."""


S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def after(table: dict[S, dict[E, S]], state: S, event: E) -> S:
    """Return the state that follows. Raises ForbiddenTransitionError where the table lacks the transition."""
    try:
        return table[state][event]
    except KeyError:
        raise ForbiddenTransitionError(f"'{event}' cannot happen in state '{state}'") from None


def ended(state: AttemptState | JobState | TargetState) -> bool:
    """Return whether the state is terminal. PUSHED is not: the host is done, but verification may still fail."""
    match state:
        case AttemptState():
            return not ATTEMPT[state]
        case JobState():
            return not JOB[state]
        case TargetState():
            return not TARGET[state]
