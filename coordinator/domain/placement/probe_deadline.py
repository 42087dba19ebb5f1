"""Which hosts that have not answered yet are worth waiting for.

A job must not be emulated only because the board that runs it natively was slow to answer; and a slow host must not
hold up what the others can do as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import IntEnum
from math import inf

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Kind
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.placement.eligibility import Choice, Rejection, Unreachable, Wanted, fit, without_asking
from coordinator.domain.placement.plan import Placement, Plan, plan
from coordinator.domain.targets.host_selection import HostSelection
from coordinator.domain.targets.target import Emulate

Found = Mapping[str, Facts | Unreachable]
# Hosts that are as quick as the others get a share of the jobs.
_GRACE_S = 1.0
# A little more than a host has to show that it is alive, so that a dead one is known for dead. A job that waits for
# another's slot waits longer as a rule.
_ROOM_S = 5.5
_RANK = {mode: rank for rank, mode in enumerate(Mode)}


class ProbePriority(IntEnum):
    """What a host that has not answered could still change.

    `NONE`: nothing. `SPARE`: it may take a job that another can have as well. `ROOM`: a job would wait for another of
    this run, and not on this host. `MODE`: a platform would be built in a worse mode. `ONLY`: nobody else can build it.
    """

    NONE = 0
    SPARE = 1
    ROOM = 2
    MODE = 3
    ONLY = 4


def waits_until(need: ProbePriority, began: float, enough: float) -> float:
    """How long to wait for hosts of which the most needed has this need: an end in the time of the arguments.

    `began` is when the hosts were asked, `enough` when no host was needed more than `ROOM` any more.
    """
    match need:
        case ProbePriority.ONLY | ProbePriority.MODE:
            return inf
        case ProbePriority.ROOM:
            return max(began + _ROOM_S, enough + _GRACE_S)
        case ProbePriority.SPARE:
            return enough + _GRACE_S
        case ProbePriority.NONE:
            return enough


def needs(
    wanted: Sequence[Wanted],
    hosts: Sequence[Host],
    found: Found,
    known: Mapping[str, Facts | None],
    asked: HostSelection,
    slots: Mapping[str, int],
) -> dict[str, ProbePriority]:
    """The need of every host that is not in `found`; `known` are facts of an earlier time.

    A host of which nothing is known may run anything the inventory does not rule out, natively.
    """
    made = plan(wanted, hosts, found, emulate=asked.emulate, on=asked.on, pinned=asked.pinned, slots=slots)
    full = _full(made, slots)
    return {
        host.name: max(
            (
                _need(job, placement, host, known.get(host.name), asked, placement.platform in full)
                for job, placement in zip(wanted, made.placements, strict=True)
            ),
            default=ProbePriority.NONE,
        )
        for host in hosts
        if host.name not in found
    }


def needs_to_name(hosts: Sequence[Host], found: Found, known: Mapping[str, Facts | None]) -> dict[str, ProbePriority]:
    """The same where no platform was asked for: they are what the hosts of `naming_kind` run natively."""
    kind = naming_kind(hosts)
    named = {platform for answer in found.values() for platform in natives(answer)}
    needed: dict[str, ProbePriority] = {}
    for host in hosts:
        if host.name not in found:
            facts = known.get(host.name)
            may_add = facts is None or not set(natives(facts)) <= named
            worth = ProbePriority.MODE if named else ProbePriority.ONLY
            needed[host.name] = worth if host.kind is kind and may_add else ProbePriority.NONE
    return needed


def naming_kind(hosts: Sequence[Host]) -> Kind:
    """Whose platforms are built where none is asked for: the boards', or without any the emulators'."""
    return Kind.BOARD if any(host.kind is Kind.BOARD for host in hosts) else Kind.EMULATOR


def natives(found: Facts | Unreachable) -> tuple[Platform, ...]:
    """What the host runs natively, or did when it last answered."""
    facts = found.known if isinstance(found, Unreachable) else found
    return facts.in_mode(Mode.NATIVE) if facts else ()


def _need(
    wanted: Wanted,
    placement: Placement,
    host: Host,
    known: Facts | None,
    asked: HostSelection,
    is_full: bool,  # noqa: FBT001
) -> ProbePriority:
    on = asked.on_for(wanted.platform)
    if without_asking(wanted.platform, host, asked.emulate, on) is not None:
        return ProbePriority.NONE
    if not placement.choices:
        # Whatever it was, it may have been mended, or have got QEMU: nobody is told "never" by what is remembered.
        return ProbePriority.ONLY
    mode, best = _promise(wanted, host, known, asked.emulate, on), placement.choices[0].mode
    if mode is None:
        return ProbePriority.NONE
    if _RANK[mode] < _RANK[best]:
        return ProbePriority.MODE
    return ProbePriority.ROOM if mode is best and is_full else ProbePriority.SPARE


def _promise(wanted: Wanted, host: Host, known: Facts | None, emulate: Emulate, on: Sequence[str]) -> Mode | None:
    """The best mode in which the host might build this, once it answers; None where it will hardly be any."""
    if known is None or not known.platforms:
        return Mode.NATIVE
    outcome = fit(wanted, host, known, emulate, on)
    match outcome:
        case Choice():
            return outcome.mode
        # What stood in its way may be gone by now.
        case Rejection(passes=True):
            return known.mode(wanted.platform)
        case Rejection():
            return None


def _full(made: Plan, slots: Mapping[str, int]) -> frozenset[Platform]:
    """Platforms whose job would have to wait for another of this run."""
    first = {placement.platform: placement.choices[0].host for placement in made.placements if placement.choices}
    jobs = Counter(first.values())
    return frozenset(platform for platform, host in first.items() if jobs[host] > slots.get(host, 1))
