"""Causes: why an attempt, a push or a wait for a host ended badly, and what follows from it. One table.

A cause is stored and sent as text. A text that is not in the table, from an older store or another agent, keeps its
words and gets the default rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from coordinator.errors import Exit


class Retry(StrEnum):
    """Where a lost job may be tried again."""

    ANY_HOST = "any host"  # the next try may well be on the same one
    ANY_HOST_ONCE = "any host, once"  # one more try tells a hiccup; a second loss of the same kind is none
    OTHER_HOST = "another host"
    NO_HOST = "no host"


class Fault(StrEnum):
    """What has to be mended, so that it does not end so again."""

    BUILD = "the build"
    HOST = "the host"
    NETWORK = "the network"
    REGISTRY = "the registry"
    INPUTS = "the inputs"


class Cause(StrEnum):
    # The build, and what came of it.
    BUILD = "build"
    MISMATCH = "mismatch"
    MALFORMED = "malformed"
    SCHEMA1 = "schema1"
    # The inputs.
    BASE = "base"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    ZSTD = "zstd"
    # The host.
    DISK = "disk"
    EMULATOR = "emulator"
    ENGINE = "engine"
    INTERNAL = "internal"
    LEFT = "left"
    MEMORY = "memory"
    NOT_BUILT = "not_built"
    NO_CONTEXT = "no_context"
    REBOOT = "reboot"
    SPEC_DIFFERS = "spec_differs"
    UNKNOWN_JOB = "unknown_job"
    VANISHED = "vanished"
    # The way to the host and back.
    CONNECTION = "connection"
    CUT = "cut"
    FORWARDING = "forwarding"
    LOOPBACK = "loopback"
    PUSH = "push"
    TUNNEL = "tunnel"
    UNREACHABLE = "unreachable"
    # The registry.
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What follows from a cause.

    `hint` is for the person who reads of it. `may_return`: a host that is away now may be back in a moment, and is not
    asked to tidy up. `no_tunnel`: the engine of this host cannot reach a tunnel, now or later. `archive_helps`: an
    """

    retry: Retry = Retry.OTHER_HOST
    exit_code: Exit = Exit.LOST
    fault: Fault = Fault.HOST
    hint: str = ""
    may_return: bool = False
    no_tunnel: bool = False
    archive_helps: bool = True


_DEFAULT = Rule()
_NOT_WHAT_WAS_ASKED = Rule(retry=Retry.NO_HOST, exit_code=Exit.REGISTRY, fault=Fault.BUILD)
_AWAY = Rule(retry=Retry.ANY_HOST, fault=Fault.NETWORK, may_return=True, archive_helps=False)
_HICCUP = Rule(retry=Retry.ANY_HOST_ONCE)
_NO_TUNNEL = Rule(fault=Fault.HOST, no_tunnel=True)

RULES: Mapping[Cause, Rule] = {
    Cause.BUILD: Rule(retry=Retry.NO_HOST, exit_code=Exit.BUILD_FAILED, fault=Fault.BUILD),
    Cause.MISMATCH: _NOT_WHAT_WAS_ASKED,
    Cause.MALFORMED: _NOT_WHAT_WAS_ASKED,
    Cause.SCHEMA1: _NOT_WHAT_WAS_ASKED,
    Cause.BASE: Rule(retry=Retry.ANY_HOST_ONCE, fault=Fault.INPUTS),
    Cause.CHANGED: Rule(
        retry=Retry.NO_HOST,
        fault=Fault.INPUTS,
        hint="run again when nothing writes there, or name it in .dockerignore",
    ),
    Cause.UNREADABLE: Rule(fault=Fault.INPUTS),
    Cause.ZSTD: Rule(fault=Fault.INPUTS),
    Cause.DISK: Rule(
        hint="make room on the host, for example with `docker system prune`, or choose other hosts with --on"
    ),
    Cause.EMULATOR: _HICCUP,
    Cause.ENGINE: _HICCUP,
    Cause.INTERNAL: Rule(
        hint="this is a defect of archloom, or an unusual host; the message above says what was found"
    ),
    Cause.LEFT: _DEFAULT,
    Cause.MEMORY: _DEFAULT,
    Cause.NOT_BUILT: _HICCUP,
    Cause.NO_CONTEXT: Rule(retry=Retry.ANY_HOST),
    Cause.REBOOT: Rule(retry=Retry.ANY_HOST),
    Cause.SPEC_DIFFERS: Rule(retry=Retry.ANY_HOST),
    Cause.UNKNOWN_JOB: Rule(retry=Retry.ANY_HOST),
    Cause.VANISHED: _HICCUP,
    Cause.CONNECTION: _AWAY,
    Cause.CUT: Rule(retry=Retry.ANY_HOST, fault=Fault.NETWORK),
    Cause.FORWARDING: _NO_TUNNEL,
    Cause.LOOPBACK: _NO_TUNNEL,
    Cause.PUSH: Rule(fault=Fault.NETWORK),
    Cause.TUNNEL: Rule(retry=Retry.ANY_HOST, fault=Fault.NETWORK),
    # Nothing answers at all: the transport has tried, and another host is the better next try.
    Cause.UNREACHABLE: Rule(fault=Fault.NETWORK, may_return=True, archive_helps=False),
    Cause.NOT_FOUND: Rule(fault=Fault.REGISTRY),
    Cause.REFUSED: Rule(fault=Fault.REGISTRY),
    Cause.REGISTRY: Rule(retry=Retry.NO_HOST, exit_code=Exit.REGISTRY, fault=Fault.REGISTRY, archive_helps=False),
}


def rule(code: str) -> Rule:
    """What follows from the cause that is stored or sent as this text."""
    try:
        return RULES[Cause(code)]
    except ValueError:
        return _DEFAULT
