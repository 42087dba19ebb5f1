"""The plan: which host builds each platform and why, and why every other host does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host
from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.eligibility import (
    Choice,
    JobRequirements,
    Rejection,
    RejectionReason,
    Unreachable,
    assess,
)
from coordinator.domain.placement.host_names import check_names
from coordinator.domain.placement.schedule import Candidate, best_hosts, demand
from coordinator.domain.targets.target import Emulate
from coordinator.errors import ArchloomError, LostError, NoHostError

_USUAL_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Placement:
    """One platform. `choices` are best first; the first is used if it has a free slot. All other hosts are rejected."""

    platform: Platform
    choices: tuple[Choice, ...]
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the plan table: `verdict` is `builds`, `could` (a host to try next) or `no`."""

    platform: str
    host: str
    mode: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One placement per wanted platform, in the order of the request."""

    placements: tuple[Placement, ...]

    @property
    def candidates(self) -> dict[Platform, tuple[Candidate, ...]]:
        """The hosts that the scheduler chooses from, by platform; platforms that no host can take are absent."""
        return {
            placement.platform: tuple(Candidate(choice.host, choice.mode) for choice in placement.choices)
            for placement in self.placements
            if placement.choices
        }

    def choice(self, platform: Platform, host: str) -> Choice:
        """Return how this host builds the platform. Raises KeyError where it does not."""
        for placement in self.placements:
            for choice in placement.choices:
                if (placement.platform, choice.host) == (platform, host):
                    return choice
        raise KeyError(platform, host)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The plan as a table, grouped by platform: the host that builds, hosts that could, hosts that do not."""
        return tuple(row for placement in self.placements for row in _rows(placement))

    def no_host_error(self) -> ArchloomError | None:
        """Return the error of a plan that leaves a platform without a host; None where every platform has a host.

        LostError where a host that cannot be used now might take the platform later, else NoHostError.
        """
        missing = [placement for placement in self.placements if not placement.choices]
        if not missing:
            return None
        lost = any(rejection.passes for placement in missing for rejection in placement.rejections)
        message = "\n".join(f"no host for {placement.platform}: {_said(placement)}" for placement in missing)
        hint = _hint(missing, is_all=len(missing) == len(self.placements))
        return (LostError if lost else NoHostError)(message, hint=hint, code="no_host")

    def to_json(self) -> dict[str, object]:
        """Return the plan for `--json`: per platform the host that builds (null for none), other choices, rejected."""
        return {"jobs": [_placement_json(placement) for placement in self.placements]}


def plan(
    wanted: Sequence[JobRequirements],
    hosts: Sequence[Host],
    found: Mapping[str, Facts | Unreachable],
    *,
    emulate: Emulate = Emulate.AUTO,
    on: Sequence[str] = (),
    pinned: Mapping[Platform, str] | None = None,
    slots: Mapping[str, int] | None = None,
) -> Plan:
    """Place every wanted platform on the hosts that can build it: native before compat before cross before emulated.

    `found` are the probe outcomes by host; a host without an outcome has not answered. `on` names the hosts that may
    be used, `pinned` the host for a platform. Hosts of the same mode are ordered by jobs per slot (`slots`, by default
    one), then by how few jobs could go to them, then 4 KiB memory pages before larger ones, because an image built
    under larger pages may run nowhere else, then by the inventory's order. Raises UsageError for an unknown host name.
    """
    pins = pinned or {}
    check_names((*on, *pins.values()), hosts)
    outcomes = [
        _outcomes(job, hosts, found, emulate, (pins[p],) if (p := job.platform) in pins else on) for job in wanted
    ]
    load = _Load(slots or {}, Counter())
    placements: dict[int, Placement] = {}
    able = [[Candidate(choice.host, choice.mode) for choice in _choices(each)] for each in outcomes]
    jobs = demand(able)
    # Jobs with the fewest hosts of their best mode choose first, as in `schedule.assign`.
    for index in sorted(range(len(wanted)), key=lambda index: len(best_hosts(able[index]))):
        choices = sorted(
            _choices(outcomes[index]),
            key=lambda choice: (
                choice.mode.rank,
                load.of(choice.host),
                jobs[choice.host],
                _has_large_pages(found.get(choice.host)),
            ),
        )
        if choices:
            load.busy[choices[0].host] += 1
        rejections = tuple(outcome for outcome in outcomes[index] if isinstance(outcome, Rejection))
        placements[index] = Placement(wanted[index].platform, tuple(choices), rejections)
    return Plan(tuple(placements[index] for index in range(len(wanted))))


@dataclass(frozen=True, slots=True)
class _Load:
    slots: Mapping[str, int]
    busy: Counter[str]

    def of(self, host: str) -> float:
        return self.busy[host] / max(1, self.slots.get(host, 1))


def _outcomes(
    wanted: JobRequirements,
    hosts: Sequence[Host],
    found: Mapping[str, Facts | Unreachable],
    emulate: Emulate,
    on: Sequence[str],
) -> list[Choice | Rejection]:
    silent = Unreachable("it has not answered")
    return [assess(wanted, host, found.get(host.name, silent), emulate, on) for host in hosts]


def _has_large_pages(found: Facts | Unreachable | None) -> bool:
    return isinstance(found, Facts) and found.page_size > _USUAL_PAGE_BYTES


def _choices(outcomes: Sequence[Choice | Rejection]) -> list[Choice]:
    return [outcome for outcome in outcomes if isinstance(outcome, Choice)]


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
    """Return the rejections to display: the user knows which hosts `--on` leaves out."""
    return [rejection for rejection in placement.rejections if rejection.why is not RejectionReason.NOT_ASKED]


def _said(placement: Placement) -> str:
    return (
        "; ".join(f"{rejection.host}: {rejection.reason}" for rejection in _telling(placement)) or "there are no hosts"
    )


def _hint(missing: Sequence[Placement], *, is_all: bool) -> str:
    lines = dict.fromkeys(
        f"{rejection.host}: {rejection.hint}"
        for placement in missing
        for rejection in _telling(placement)
        if rejection.hint
    )
    platforms = ", ".join(str(placement.platform) for placement in missing)
    otherwise = f"add a host for {platforms} to the inventory"
    if not is_all:
        otherwise += f", or leave {'it' if len(missing) == 1 else 'them'} out of --platform"
    return "\n".join((*lines, f"or {otherwise}" if lines else otherwise))


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
