"""How long to wait for each host that has not answered its probe.

A job must not be emulated only because the board that runs it natively was slow to answer; and a slow host must not
delay jobs that other hosts can build as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import IntEnum
from math import inf

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Kind
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.placement.eligibility import (
    Choice,
    JobRequirements,
    Rejection,
    Unreachable,
    assess,
    rejected_unprobed,
)
from coordinator.domain.placement.plan import Placement, Plan, plan
from coordinator.domain.targets.host_selection import HostSelection
from coordinator.domain.targets.target import Emulate

Found = Mapping[str, Facts | Unreachable]
# Extra wait once the answers suffice, so that hosts that answer about as quickly get a share of the jobs.
_GRACE_S = 1.0
# Slightly longer than the default `connect_timeout`, so that an unreachable host is known to be unreachable. A job that
# waits for another job's slot usually waits longer.
_QUEUED_TIMEOUT_S = 5.5


class ProbePriority(IntEnum):
    """What a host that has not answered could still change in the plan.

    `NONE`: nothing. `SPARE`: it may take a job that another host can take as well. `QUEUED`: without it a job would
    wait for another job of this run. `MODE`: without it a platform would be built in a worse mode. `ONLY`: no other
    host can build a platform.
    """

    NONE = 0
    SPARE = 1
    QUEUED = 2
    MODE = 3
    ONLY = 4


def probe_deadline(need: ProbePriority, began: float, enough: float) -> float:
    """Return the time until which to wait for hosts whose highest priority is `need`, on the clock of the arguments.

    `began` is when the probes started, `enough` is when the highest priority first was at most `QUEUED`.
    """
    match need:
        case ProbePriority.ONLY | ProbePriority.MODE:
            return inf
        case ProbePriority.QUEUED:
            return max(began + _QUEUED_TIMEOUT_S, enough + _GRACE_S)
        case ProbePriority.SPARE:
            return enough + _GRACE_S
        case ProbePriority.NONE:
            return enough


def probe_priorities(
    wanted: Sequence[JobRequirements],
    hosts: Sequence[Host],
    found: Found,
    known: Mapping[str, Facts | None],
    selection: HostSelection,
    slots: Mapping[str, int],
) -> dict[str, ProbePriority]:
    """Return the priority of every host that is not in `found`; `known` are facts from earlier probes.

    A host without known facts is assumed to run natively every platform that the inventory does not rule out.
    """
    current = plan(
        wanted, hosts, found, emulate=selection.emulate, on=selection.on, pinned=selection.pinned, slots=slots
    )
    full = _full(current, slots)
    return {
        host.name: max(
            (
                _need(job, placement, host, known.get(host.name), selection, placement.platform in full)
                for job, placement in zip(wanted, current.placements, strict=True)
            ),
            default=ProbePriority.NONE,
        )
        for host in hosts
        if host.name not in found
    }


def priorities_to_name(
    hosts: Sequence[Host], found: Found, known: Mapping[str, Facts | None]
) -> dict[str, ProbePriority]:
    """Return the priorities for a request without platforms: it builds what hosts of `naming_kind` run natively."""
    kind = naming_kind(hosts)
    named = {platform for answer in found.values() for platform in natives(answer)}
    needed: dict[str, ProbePriority] = {}
    for host in hosts:
        if host.name not in found:
            facts = known.get(host.name)
            may_add = facts is None or not set(natives(facts)) <= named
            priority = ProbePriority.MODE if named else ProbePriority.ONLY
            needed[host.name] = priority if host.kind is kind and may_add else ProbePriority.NONE
    return needed


def naming_kind(hosts: Sequence[Host]) -> Kind:
    """Return the kind of host that sets the platforms of a request without any: boards, or emulators without boards."""
    return Kind.BOARD if any(host.kind is Kind.BOARD for host in hosts) else Kind.EMULATOR


def natives(found: Facts | Unreachable) -> tuple[Platform, ...]:
    """Return the platforms that the host runs natively, or ran natively when it last answered."""
    facts = found.known if isinstance(found, Unreachable) else found
    return facts.in_mode(Mode.NATIVE) if facts else ()


def _need(
    wanted: JobRequirements,
    placement: Placement,
    host: Host,
    known: Facts | None,
    selection: HostSelection,
    is_full: bool,  # noqa: FBT001
) -> ProbePriority:
    on = selection.on_for(wanted.platform)
    if rejected_unprobed(wanted.platform, host, selection.emulate, on) is not None:
        return ProbePriority.NONE
    if not placement.choices:
        # The host may have been repaired, or have got QEMU, since: earlier facts alone must not rule out a platform.
        return ProbePriority.ONLY
    mode, best = _promise(wanted, host, known, selection.emulate, on), placement.choices[0].mode
    if mode is None:
        return ProbePriority.NONE
    if mode.rank < best.rank:
        return ProbePriority.MODE
    return ProbePriority.QUEUED if mode is best and is_full else ProbePriority.SPARE


def _promise(
    wanted: JobRequirements, host: Host, known: Facts | None, emulate: Emulate, on: Sequence[str]
) -> Mode | None:
    """Return the best mode in which the host might build the job once it answers; None where that is unlikely."""
    if known is None or not known.platforms:
        return Mode.NATIVE
    outcome = assess(wanted, host, known, emulate, on)
    match outcome:
        case Choice():
            return outcome.mode
        # The reason for the rejection may have passed.
        case Rejection(passes=True):
            return known.mode(wanted.platform)
        case Rejection():
            return None


def _full(current: Plan, slots: Mapping[str, int]) -> frozenset[Platform]:
    """Return the platforms whose job would have to wait for another job of this run."""
    first = {placement.platform: placement.choices[0].host for placement in current.placements if placement.choices}
    jobs = Counter(first.values())
    return frozenset(platform for platform, host in first.items() if jobs[host] > slots.get(host, 1))
