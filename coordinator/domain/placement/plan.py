"""Which host gets each platform and why, and why every other host does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.placement.eligibility import (
    Choice,
    Frontend,
    Rejection,
    RejectionReason,
    Unreachable,
    Wanted,
    fit,
)
from coordinator.domain.placement.schedule import Candidate, best_hosts, demand
from coordinator.domain.targets.target import Emulate
from coordinator.errors import ArchloomError, LostError, NoHostError, UsageError

__all__ = [
    "Choice",
    "Frontend",
    "Placement",
    "Plan",
    "Rejection",
    "RejectionReason",
    "Row",
    "Unreachable",
    "Wanted",
    "plan",
]

_RANK = {mode: rank for rank, mode in enumerate(Mode)}
_USUAL_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Placement:
    """One platform: `choices` best first, the first one taken if its slot is free; every other host is rejected."""

    platform: Platform
    choices: tuple[Choice, ...]
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: `verdict` is `builds`, `could` (the next one to try) or `no`."""

    platform: str
    host: str
    mode: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A placement per wanted platform, in the order they were asked for."""

    placements: tuple[Placement, ...]

    @property
    def candidates(self) -> dict[Platform, tuple[Candidate, ...]]:
        """What the scheduler chooses from; platforms that no host can take are not in it."""
        return {
            placement.platform: tuple(Candidate(choice.host, choice.mode) for choice in placement.choices)
            for placement in self.placements
            if placement.choices
        }

    def choice(self, platform: Platform, host: str) -> Choice:
        """How this host builds the platform. Raises KeyError where it does not."""
        for placement in self.placements:
            for choice in placement.choices:
                if (placement.platform, choice.host) == (platform, host):
                    return choice
        raise KeyError(platform, host)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The plan as a table, a platform's rows together: who builds, who could, who does not."""
        return tuple(row for placement in self.placements for row in _rows(placement))

    def complaint(self) -> ArchloomError | None:
        """The error of a plan that leaves a platform without a host; None where every one has a host.

        LostError where a host that cannot be used now might have taken it, else NoHostError.
        """
        missing = [placement for placement in self.placements if not placement.choices]
        if not missing:
            return None
        lost = any(rejection.passes for placement in missing for rejection in placement.rejections)
        message = "; ".join(f"no host for {placement.platform}: {_said(placement)}" for placement in missing)
        return (LostError if lost else NoHostError)(message, hint=_hint(missing), code="no_host")

    def to_json(self) -> dict[str, object]:
        """For `--json`: per platform the host that builds (null for none), the others that could, and the rejected."""
        return {"jobs": [_placement_json(placement) for placement in self.placements]}


def plan(
    wanted: Sequence[Wanted],
    hosts: Sequence[Host],
    found: Mapping[str, Facts | Unreachable],
    *,
    emulate: Emulate = Emulate.AUTO,
    on: Sequence[str] = (),
    pinned: Mapping[Platform, str] | None = None,
    slots: Mapping[str, int] | None = None,
) -> Plan:
    """Places every wanted platform on the hosts that can build it, natively before compat before emulated.

    `found` is the outcome of probing, by host; a host that is not in it has not answered. `on` names the hosts that
    may be used, `pinned` the one for a platform. Among equals the jobs spread by `slots` (one where not said) and
    to hosts that few jobs want; then memory pages of 4 KiB come first, because what is built under larger ones may run
    nowhere else; then the inventory's order decides. Raises UsageError for a name that is no host's.
    """
    pins = pinned or {}
    check_names((*on, *pins.values()), hosts)
    outcomes = [
        _outcomes(job, hosts, found, emulate, (pins[p],) if (p := job.platform) in pins else on) for job in wanted
    ]
    load = _Load(slots or {}, Counter())
    order = {host.name: (_has_large_pages(found.get(host.name)), place) for place, host in enumerate(hosts)}
    placements: dict[int, Placement] = {}
    able = [[Candidate(choice.host, choice.mode) for choice in _choices(each)] for each in outcomes]
    jobs = demand(able)
    # Those with the fewest hosts of their best mode choose first, as the scheduler has it.
    for at in sorted(range(len(wanted)), key=lambda at: len(best_hosts(able[at]))):
        choices = sorted(
            _choices(outcomes[at]),
            key=lambda choice: (_RANK[choice.mode], load.of(choice.host), jobs[choice.host], order[choice.host]),
        )
        if choices:
            load.busy[choices[0].host] += 1
        rejections = tuple(outcome for outcome in outcomes[at] if isinstance(outcome, Rejection))
        placements[at] = Placement(wanted[at].platform, tuple(choices), rejections)
    return Plan(tuple(placements[at] for at in range(len(wanted))))


@dataclass(frozen=True, slots=True)
class _Load:
    slots: Mapping[str, int]
    busy: Counter[str]

    def of(self, host: str) -> float:
        return self.busy[host] / max(1, self.slots.get(host, 1))


def _outcomes(
    wanted: Wanted,
    hosts: Sequence[Host],
    found: Mapping[str, Facts | Unreachable],
    emulate: Emulate,
    on: Sequence[str],
) -> list[Choice | Rejection]:
    silent = Unreachable("it has not answered")
    return [fit(wanted, host, found.get(host.name, silent), emulate, on) for host in hosts]


def _has_large_pages(found: Facts | Unreachable | None) -> bool:
    return isinstance(found, Facts) and found.page_size > _USUAL_PAGE


def _choices(outcomes: Sequence[Choice | Rejection]) -> list[Choice]:
    return [outcome for outcome in outcomes if isinstance(outcome, Choice)]


def check_names(names: Sequence[str], hosts: Sequence[Host], where: str = " in --on") -> None:
    """Raises UsageError for a name that is no host's; `where` says which word of the user's it is."""
    known = [host.name for host in hosts]
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"the inventory has {', '.join(known) or 'no hosts'}"
            raise UsageError(f"unknown host '{name}'{where}", hint=hint, code="host")


def _rows(placement: Placement) -> list[Row]:
    platform = str(placement.platform)
    verdicts = ["builds", *("could" for _ in placement.choices[1:])]
    return [
        *(
            Row(platform, choice.host, choice.mode.value, verdict, choice.reason)
            for verdict, choice in zip(verdicts, placement.choices, strict=False)
        ),
        *(Row(platform, rejection.host, "", "no", rejection.reason) for rejection in placement.rejections),
    ]


def _telling(placement: Placement) -> list[Rejection]:
    """The rejections worth saying: that the user named other hosts is news to nobody."""
    return [rejection for rejection in placement.rejections if rejection.why is not RejectionReason.NOT_ASKED]


def _said(placement: Placement) -> str:
    return (
        "; ".join(f"{rejection.host}: {rejection.reason}" for rejection in _telling(placement)) or "there are no hosts"
    )


def _hint(missing: Sequence[Placement]) -> str:
    lines = dict.fromkeys(
        f"{rejection.host}: {rejection.hint}"
        for placement in missing
        for rejection in _telling(placement)
        if rejection.hint
    )
    platforms = ", ".join(str(placement.platform) for placement in missing)
    return "\n".join((*lines, f"or add a host for {platforms} to the inventory, or leave it out of --platform"))


def _placement_json(placement: Placement) -> dict[str, object]:
    choices: list[dict[str, object]] = [
        {"host": choice.host, "mode": choice.mode.value, "engine": choice.builder.value, "reason": choice.reason}
        for choice in placement.choices
    ]
    return {
        "platform": str(placement.platform),
        "builds": choices[0] if choices else None,
        "could": choices[1:],
        "rejected": [
            {"host": rejection.host, "code": rejection.why.value, "reason": rejection.reason, "hint": rejection.hint}
            for rejection in placement.rejections
        ],
    }
