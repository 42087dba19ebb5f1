"""Which hosts a request may use: the platforms it is for, the plan, and what is left of it for the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from coordinator.domain.dockerfile_stages import Dockerfile
from coordinator.domain.events import Event, Notice
from coordinator.domain.facts import Driver, Facts
from coordinator.domain.fit import Frontend, Unreachable, Wanted
from coordinator.domain.inventory import Inventory, Kind
from coordinator.domain.plan import Plan, plan
from coordinator.domain.platforms import Mode, Platform
from coordinator.domain.schedule import Candidate
from coordinator.errors import LostError
from coordinator.runner.around import Around
from coordinator.runner.farm import Farm
from coordinator.runner.inputs import read_dockerfile
from coordinator.runner.probe import probe
from coordinator.runner.request import BuildRequest


async def plan_build(
    request: BuildRequest, inventory: Inventory, around: Around, emit: Callable[[Event], None]
) -> Plan:
    """The plan of this request; nothing is sent anywhere, and no registry is asked."""
    tell_of_inventory(inventory, emit)
    dockerfile = read_dockerfile(request.target)
    async with Farm(inventory, around) as farm:
        found = await probe(farm, around.clock)
        request = with_platforms(request, inventory, found)
        return plan_for(request, inventory, found, farm, dockerfile, request.target.platforms)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The hosts for each platform, best first, and how each one's engine is made to build it."""

    by_platform: Mapping[Platform, Sequence[Candidate]]
    drivers: Mapping[tuple[Platform, str], Driver]


def candidates(plan: Plan) -> Candidates:
    """Hosts for the platforms that have to be built. Raises NoHostError or LostError where one has none."""
    problem = plan.complaint()
    if problem is not None:
        raise problem
    drivers = {(one.platform, choice.host): choice.driver for one in plan.placements for choice in one.choices}
    return Candidates(plan.candidates, drivers)


def plan_for(
    request: BuildRequest,
    inventory: Inventory,
    found: Mapping[str, Facts | Unreachable],
    farm: Farm,
    dockerfile: Dockerfile,
    platforms: Sequence[Platform],
) -> Plan:
    """The plan for these platforms of the request, from what the probe found."""
    frontend = Frontend.IMAGE if dockerfile.syntax else Frontend.BUILTIN
    wanted = [Wanted(platform=platform, frontend=frontend) for platform in platforms]
    return plan(wanted, inventory.hosts, found, emulate=request.emulate, on=request.on, slots=farm.slots)


def with_platforms(
    request: BuildRequest, inventory: Inventory, found: Mapping[str, Facts | Unreachable]
) -> BuildRequest:
    """Without --platform: what the boards run natively; where there are no boards, what the emulators do."""
    if request.target.platforms:
        return request
    kind = Kind.BOARD if any(host.kind is Kind.BOARD for host in inventory.hosts) else Kind.EMULATOR
    facts = [found[host.name] for host in inventory.hosts if host.kind is kind]
    native = {p for one in facts if isinstance(one, Facts) for p in one.in_mode(Mode.NATIVE)}
    if not native:
        why = "; ".join(f"{host.name}: {_silence(found[host.name])}" for host in inventory.hosts if host.kind is kind)
        raise LostError(
            f"there are no platforms to build for, because no {kind} can say what it runs: {why}",
            hint="name them with --platform, and see archloom boards for what is wrong",
        )
    platforms = tuple(sorted(native, key=attrgetter("sort_key")))
    return replace(request, target=replace(request.target, platforms=platforms))


def _silence(found: Facts | Unreachable) -> str:
    if isinstance(found, Unreachable):
        return found.message
    return found.blocking.message if found.blocking else "it runs nothing natively"


def tell_of_inventory(inventory: Inventory, emit: Callable[[Event], None]) -> None:
    """That there is no inventory is no error, and nothing to be silent about."""
    if not inventory.source:
        emit(Notice("no inventory file: this machine (local) builds everything, through QEMU where it must"))
