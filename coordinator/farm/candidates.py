"""Which hosts a request may use: its platforms, the plan, and the candidates for the scheduler."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from types import MappingProxyType

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.candidates import Candidates
from coordinator.domain.placement.eligibility import Frontend, JobRequirements, Unreachable
from coordinator.domain.placement.plan import Plan, plan
from coordinator.domain.placement.probe_deadline import naming_kind, natives
from coordinator.domain.placement.skipped_hosts import skipped_lines
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.targets.request import BuildRequest
from coordinator.errors import LostError
from coordinator.farm.farm import Farm
from coordinator.farm.probe import Probing


def candidates(plan: Plan, needed: Collection[Platform]) -> Candidates:
    """Return the candidates of the plan. Raises NoHostError or LostError where a `needed` platform has none."""
    problem = Plan(tuple(placement for placement in plan.placements if placement.platform in needed)).no_host_error()
    if problem is not None:
        raise problem
    builders = {
        (placement.platform, choice.host): choice.builder
        for placement in plan.placements
        for choice in placement.choices
    }
    return Candidates(plan.candidates, builders, plan.rows)


def wanted(
    frontend_image: str,
    platforms: Sequence[Platform],
    space: Mapping[Platform, int] = MappingProxyType({}),
    copied_dockerfile: Mapping[Platform, str] = MappingProxyType({}),
    newer_syntax: str = "",
) -> list[JobRequirements]:
    """Return one job per platform. `space` and the others are as in JobRequirements, where they are known.

    `frontend_image` is empty for the engine's own frontend.
    """
    frontend = Frontend.IMAGE if frontend_image else Frontend.BUILTIN
    return [
        JobRequirements(
            platform=platform,
            frontend=frontend,
            space=space.get(platform, 0),
            copied_dockerfile=copied_dockerfile.get(platform, ""),
            newer_syntax=newer_syntax,
        )
        for platform in platforms
    ]


def plan_for(
    request: BuildRequest,
    inventory: Inventory,
    found: Mapping[str, Facts | Unreachable],
    farm: Farm,
    jobs: Sequence[JobRequirements],
) -> Plan:
    """Return the plan for these jobs of the request, from the probe outcomes in `found`."""
    selection = request.selection
    return plan(
        jobs,
        inventory.hosts,
        found,
        emulate=selection.emulate,
        on=selection.on,
        pinned=selection.pinned,
        slots=farm.slots,
    )


async def with_platforms(request: BuildRequest, inventory: Inventory, probing: Probing, emit: Emit) -> BuildRequest:
    """Return the request with its platforms.

    Without --platform: the native platforms of the boards, or of the emulators where there are no boards. A host that
    is off counts with the platforms of its last facts: that changes which host builds, not what is built. Raises
    LostError where no platform is known.
    """
    if not request.target.platforms:
        found = await probing.facts_for_platforms()
        request = replace(request, target=replace(request.target, platforms=_named_platforms(inventory, found, emit)))
    request.selection.check_platforms(request.target.platforms)
    return request


def _named_platforms(
    inventory: Inventory, found: Mapping[str, Facts | Unreachable], emit: Emit
) -> tuple[Platform, ...]:
    kind = naming_kind(inventory.hosts)
    naming = {host.name: found[host.name] for host in inventory.hosts if host.kind is kind}
    native = {platform for answer in naming.values() for platform in natives(answer)}
    if not native:
        reasons = "; ".join(f"{name}: {_reason(answer)}" for name, answer in naming.items())
        raise LostError(
            f"there are no platforms to build for, because the native platforms of no {kind} are known: {reasons}",
            hint="name them with --platform, and see archloom boards for what is wrong",
        )
    unknown = [name for name, answer in naming.items() if not natives(answer)]
    if unknown:
        emit(Notice(f"the platforms of {', '.join(unknown)} are unknown and are not built: name them with --platform"))
    return tuple(sorted(native, key=attrgetter("sort_key")))


def _reason(found: Facts | Unreachable) -> str:
    """Return why the host has no native platforms."""
    if isinstance(found, Unreachable):
        return found.message
    return found.blocking.message if found.blocking else "it runs nothing natively"


def report_skipped_hosts(plan: Plan, emit: Emit) -> None:
    """Emit one notice per host that could have built a job but for a problem."""
    for line in skipped_lines(plan):
        emit(Notice(line))
