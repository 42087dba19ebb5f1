"""Causes: why an attempt, a push or a wait for a host ended badly. One table says what follows from each cause.

A cause is stored and sent as text. A text that is not in the table, from an older store or another agent, is kept
unchanged and gets the default rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from coordinator.errors import Exit


class Retry(StrEnum):
    """Which hosts may take the next attempt of a lost job."""

    ANY_HOST = "any host"  # also the host that lost it
    ANY_HOST_ONCE = "any host, once"  # after a second loss with the same cause, only another host
    ONCE = "any host, once in all"
    OTHER_HOST = "another host"
    NO_HOST = "no host"


class Fault(StrEnum):
    """What has to be fixed so that the next attempt does not end the same way."""

    BUILD = "the build"
    HOST = "the host"
    NETWORK = "the network"
    REGISTRY = "the registry"
    INPUTS = "the inputs"


class Cause(StrEnum):
    # The build and its result.
    BUILD = "build"
    NETWORK = "network"
    MISMATCH = "mismatch"
    MALFORMED = "malformed"
    SCHEMA1 = "schema1"
    # The inputs.
    BASE = "base"
    CASE = "case"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    ZSTD = "zstd"
    # The host.
    BUSY = "busy"
    DISK = "disk"
    EMULATOR = "emulator"
    ENGINE = "engine"
    INTERNAL = "internal"
    LEFT = "left"
    MEMORY = "memory"
    NOT_BUILT = "not_built"
    NO_CONTEXT = "no_context"
    PROTOCOL = "protocol"
    READ_ONLY = "read_only"
    REBOOT = "reboot"
    RESOLVE = "resolve"
    SLOT = "slot"
    SPEC_DIFFERS = "spec_differs"
    UNKNOWN_JOB = "unknown_job"
    VANISHED = "vanished"
    # The connection to the host, its tunnel, and the push.
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

    `hint` is for the user. `may_return`: the host may be reachable again soon, and is not asked to clean up now.
    `no_tunnel`: the engine of this host cannot reach a tunnel, now or later. `archive_helps`: transferring the image
    as an archive may succeed where its pushes through the tunnel were lost.
    """

    retry: Retry = Retry.OTHER_HOST
    exit_code: Exit = Exit.LOST
    fault: Fault = Fault.HOST
    hint: str = ""
    may_return: bool = False
    no_tunnel: bool = False
    archive_helps: bool = True


_DEFAULT = Rule()
_WRONG_IMAGE = Rule(retry=Retry.NO_HOST, exit_code=Exit.REGISTRY, fault=Fault.BUILD)
_DISCONNECTED = Rule(retry=Retry.ANY_HOST, fault=Fault.NETWORK, may_return=True, archive_helps=False)
_TRANSIENT = Rule(retry=Retry.ANY_HOST_ONCE)
_NO_TUNNEL = Rule(fault=Fault.HOST, no_tunnel=True)

RULES: Mapping[Cause, Rule] = {
    Cause.BUILD: Rule(retry=Retry.NO_HOST, exit_code=Exit.BUILD_FAILED, fault=Fault.BUILD),
    # The result is FAILED, as of any step that fails; the same step may succeed in a moment.
    Cause.NETWORK: Rule(
        retry=Retry.ONCE,
        exit_code=Exit.BUILD_FAILED,
        fault=Fault.NETWORK,
        hint="a program of a build step had no network; check the network of the host and the server that it names",
    ),
    Cause.MISMATCH: _WRONG_IMAGE,
    Cause.MALFORMED: _WRONG_IMAGE,
    Cause.SCHEMA1: _WRONG_IMAGE,
    Cause.BASE: Rule(retry=Retry.ANY_HOST_ONCE, fault=Fault.INPUTS),
    Cause.CASE: Rule(hint="rename one of the two, or name it in .dockerignore, or build on another host with --on"),
    Cause.CHANGED: Rule(
        retry=Retry.NO_HOST,
        fault=Fault.INPUTS,
        hint="run again when nothing writes to it; if the image does not need it, name it in .dockerignore",
    ),
    Cause.UNREADABLE: Rule(fault=Fault.INPUTS),
    Cause.ZSTD: Rule(fault=Fault.INPUTS),
    # A request found a lock of the agent held: something there is slow, or hangs.
    Cause.BUSY: _TRANSIENT,
    Cause.DISK: Rule(
        hint="free disk space on the host, for example with `docker system prune`, or choose other hosts with --on"
    ),
    Cause.EMULATOR: _TRANSIENT,
    Cause.ENGINE: _TRANSIENT,
    Cause.INTERNAL: Rule(hint="this is a bug of archloom, or an unusual host; the message above says what was found"),
    Cause.LEFT: _DEFAULT,
    Cause.MEMORY: Rule(
        hint="the host has too little memory for this build: give it fewer jobs, choose others with --on, or lower "
        "its memory_floor in the inventory"
    ),
    Cause.NOT_BUILT: _TRANSIENT,
    Cause.NO_CONTEXT: Rule(retry=Retry.ANY_HOST),
    # What the host sends breaks the contract: a damaged disk or memory, or something else that answers in its place.
    Cause.PROTOCOL: Rule(
        hint="something there prints in the agent's place, or damages what it sends: see `archloom boards`, "
        "and restart the host or take it out of the inventory",
        archive_helps=False,
    ),
    Cause.READ_ONLY: Rule(
        hint="see `dmesg` on the host for the reason, such as a worn-out card, or choose other hosts with --on"
    ),
    Cause.REBOOT: Rule(retry=Retry.ANY_HOST),
    Cause.RESOLVE: Rule(
        retry=Retry.ANY_HOST_ONCE,
        fault=Fault.NETWORK,
        hint="the engine of the host cannot reach a registry or server by itself; check its DNS, proxy and clock",
    ),
    Cause.SLOT: _DEFAULT,
    Cause.SPEC_DIFFERS: Rule(retry=Retry.ANY_HOST),
    Cause.UNKNOWN_JOB: Rule(retry=Retry.ANY_HOST),
    Cause.VANISHED: _TRANSIENT,
    Cause.CONNECTION: _DISCONNECTED,
    Cause.CUT: Rule(retry=Retry.ANY_HOST, fault=Fault.NETWORK),
    Cause.FORWARDING: _NO_TUNNEL,
    Cause.LOOPBACK: _NO_TUNNEL,
    Cause.PUSH: Rule(fault=Fault.NETWORK),
    Cause.TUNNEL: Rule(retry=Retry.ANY_HOST, fault=Fault.NETWORK),
    # The SSH transport has already tried and got no answer at all: another host is the better next attempt.
    Cause.UNREACHABLE: Rule(fault=Fault.NETWORK, may_return=True, archive_helps=False),
    Cause.NOT_FOUND: Rule(fault=Fault.REGISTRY),
    Cause.REFUSED: Rule(fault=Fault.REGISTRY),
    Cause.REGISTRY: Rule(retry=Retry.NO_HOST, exit_code=Exit.REGISTRY, fault=Fault.REGISTRY, archive_helps=False),
}


def rule(code: str) -> Rule:
    """Return the rule of the cause that is stored or sent as this text; the default rule for an unknown text."""
    try:
        return RULES[Cause(code)]
    except ValueError:
        return _DEFAULT
