"""Show the hosts without a build: from the fact cache where it is recent enough, else from a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Inventory
from coordinator.domain.hosts.last_probe import CachedFacts
from coordinator.domain.placement.duplicate_hosts import mark_duplicates, with_pins
from coordinator.domain.placement.eligibility import Unreachable
from coordinator.domain.run.events import Emit
from coordinator.environment import Environment
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.farm import Farm, slots_of
from coordinator.farm.probe import Probing
from coordinator.hosts.ssh.reach import takes_connections
from coordinator.state.open_store import open_store_if_usable


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """The outcome of one host. `age` is its age in seconds; `cached`: it is from an earlier probe.

    `slots` is 0 where it is unknown. `known_age` is the age in seconds of `found.known`, if the host does not answer.
    """

    found: Facts | Unreachable
    age: float = 0.0
    cached: bool = False
    slots: int = 0
    known_age: float = 0.0


async def survey_hosts(
    inventory: Inventory,
    env: Environment,
    emit: Emit,
    names: Sequence[str] = (),
    *,
    refresh: bool = False,
) -> dict[str, HostStatus]:
    """Return the outcomes of the named hosts, or of all, in the inventory's order.

    Cached facts of a host without a blocking problem are used for 5 minutes where its SSH port still takes connections,
    a missing answer for 1 minute; all other hosts are probed, concurrently. `refresh` ignores the cache.
    """
    hosts = [host for host in inventory.hosts if not names or host.name in names]
    with open_store_if_usable(env, emit) as store:
        fact_cache = FactCache(store, env.clock)
        now = env.clock()
        known = {host.name: fact_cache.known(host) for host in inventory.hosts}
        cached = {} if refresh else await _without_dead(hosts, _cached_outcomes(hosts, known, now))
        async with Farm(inventory, env) as farm, Probing(farm, inventory, fact_cache, env, emit) as probing:
            probed = await probing.all(host.name for host in hosts if host.name not in cached)
        return _with_duplicates_marked(inventory, hosts, cached, probed, fact_cache, known, env.clock())


def _cached_outcomes(
    hosts: Sequence[Host], known: Mapping[str, CachedFacts], now: float
) -> dict[str, Facts | Unreachable]:
    outcomes = {host.name: _cached_outcome(host, known[host.name], now) for host in hosts}
    return {name: outcome for name, outcome in outcomes.items() if outcome is not None}


async def _without_dead(
    hosts: Sequence[Host], cached: Mapping[str, Facts | Unreachable]
) -> dict[str, Facts | Unreachable]:
    """Return the outcomes without the facts of boards that take no connections any more: these are probed."""
    boards = [host for host in hosts if isinstance(cached.get(host.name), Facts) and not host.address.is_local]
    taking = await asyncio.gather(*map(takes_connections, boards))
    dead = {host.name for host, takes in zip(boards, taking, strict=True) if not takes}
    return {name: outcome for name, outcome in cached.items() if name not in dead}


def _cached_outcome(host: Host, known: CachedFacts, now: float) -> Facts | Unreachable | None:
    last_probe = known.last_probe
    if known.is_silent(now):
        return Unreachable(last_probe.message, last_probe.hint, known=known.facts)
    return with_pins(host, known.facts) if known.facts and known.is_fresh(now) else None


def _with_duplicates_marked(
    inventory: Inventory,
    hosts: Sequence[Host],
    cached: dict[str, Facts | Unreachable],
    probed: dict[str, Facts | Unreachable],
    fact_cache: FactCache,
    known: dict[str, CachedFacts],
    now: float,
) -> dict[str, HostStatus]:
    """Return the outcomes with duplicate entries of one machine marked.

    The two entries may have been probed at different times, so cached outcomes of all hosts are compared too.
    """
    machines = {host.name: fact_cache.known(host).last_probe.machine for host in inventory.hosts}
    others = {name: last.facts for name, last in known.items() if last.facts and last.is_fresh(now)}
    found = mark_duplicates(inventory, others | cached | probed, machines)
    return {host.name: _status(host, found[host.name], known[host.name], host.name in cached, now) for host in hosts}


def _status(host: Host, found: Facts | Unreachable, known: CachedFacts, cached: bool, now: float) -> HostStatus:  # noqa: FBT001
    silent_at = known.last_probe.silent_at
    since = now - silent_at if isinstance(found, Unreachable) and silent_at is not None else known.age(now)
    facts = found.known if isinstance(found, Unreachable) else found
    return HostStatus(
        found=found,
        age=since if cached else 0.0,
        cached=cached,
        slots=slots_of(host, facts) if facts else host.jobs or 0,
        known_age=known.age(now),
    )
