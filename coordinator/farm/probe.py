"""Probe all hosts concurrently, and wait for each no longer than its answer could improve the plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, isinf
from types import TracebackType
from typing import Self

from coordinator.domain.causes import Cause
from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Inventory
from coordinator.domain.placement.duplicate_hosts import mark_duplicates, with_pins
from coordinator.domain.placement.eligibility import JobRequirements, Unreachable, rejected_unprobed
from coordinator.domain.placement.probe_deadline import (
    ProbePriority,
    priorities_to_name,
    probe_deadline,
    probe_priorities,
)
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.targets.host_selection import HostSelection
from coordinator.environment import Environment
from coordinator.errors import ArchloomError
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.farm import Farm

# From the SSH banner to the answer; for the banner a host has its `connect_timeout`.
_PROBE_TIMEOUT_S = 30.0
# When to tell the user which hosts are waited for, in seconds since the wait began.
_NOTICES_AFTER_S = (3.0, 10.0, 20.0, 30.0)

Outcomes = dict[str, Facts | Unreachable]


class Probing:
    """The probes of one run, one per host unless it is asked `again`. The end of the block cancels open probes."""

    def __init__(self, farm: Farm, inventory: Inventory, fact_cache: FactCache, env: Environment, emit: Emit) -> None:
        self._farm = farm
        self._inventory = inventory
        self._fact_cache = fact_cache
        self._clock = env.clock
        self._emit = emit
        self._tasks: dict[str, asyncio.Task[Facts | Unreachable]] = {}
        self._not_probed: dict[str, Unreachable] = {}
        self._machines: dict[str, str] = {}
        # The facts from before this run, which its own probes do not change.
        self._known = {host.name: fact_cache.known(host) for host in inventory.hosts}
        farm.ask_facts = self.again

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def all(self, names: Iterable[str]) -> Outcomes:
        """Probe these hosts, whatever the cache has of them, and wait for all open probes; return every outcome."""
        self._ask(names)
        if self._tasks:
            await self._wait(lambda found: dict.fromkeys(self._farm.hosts.keys() - found.keys(), ProbePriority.ONLY))
        return self._found()

    async def again(self, name: str) -> None:
        """Probe a host that has not answered once more, and wait for the outcome."""
        self._not_probed.pop(name, None)
        task = self._tasks.get(name)
        if task is None or task.done():
            task = self._tasks[name] = asyncio.create_task(self._probe(self._farm.hosts[name]))
        await asyncio.wait({task})

    async def facts_for_platforms(self) -> Outcomes:
        """Probe until it is known which platforms to build for without --platform; return the outcomes."""
        self._probe_unless_silent(list(self._farm.hosts), ())
        return await self._probe_until_enough(
            lambda found: priorities_to_name(self._inventory.hosts, found, self._last())
        )

    async def facts_for_planning(
        self, wanted: Sequence[JobRequirements], selection: HostSelection, least: ProbePriority = ProbePriority.NONE
    ) -> Outcomes:
        """Probe until these jobs can be planned; return the outcomes. `least` is the minimum priority of every host.

        A host that did not answer within the last minute is not probed, unless the request names it or no other host
        can take a job. Hosts that the inventory or `--on` rules out are not probed either.
        """
        self.begin(wanted, selection)

        def needed(found: Outcomes) -> dict[str, ProbePriority]:
            judged = probe_priorities(wanted, self._inventory.hosts, found, self._last(), selection, self._farm.slots)
            return {name: max(need, least) for name, need in judged.items()}

        return await self._probe_until_enough(needed)

    def begin(self, wanted: Sequence[JobRequirements], selection: HostSelection) -> None:
        """Begin the probes that `facts_for_planning` waits for. Hosts that are probed already are not asked again."""
        self._probe_unless_silent(
            [
                host.name
                for host in self._inventory.hosts
                if any(
                    rejected_unprobed(job.platform, host, selection.emulate, selection.on_for(job.platform)) is None
                    for job in wanted
                )
            ],
            selection.names,
        )

    def _ask(self, names: Iterable[str]) -> None:
        for name in names:
            self._not_probed.pop(name, None)
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._probe(self._farm.hosts[name]))

    def _probe_unless_silent(self, names: Sequence[str], anyway: Sequence[str]) -> None:
        now = self._clock()
        for name in names:
            known = self._known[name]
            if name not in self._tasks and known.is_silent(now) and name not in anyway:
                self._not_probed[name] = Unreachable(known.silence(now), known.last_probe.hint, known=known.facts)
            else:
                self._ask([name])

    async def _probe_until_enough(self, needed: Callable[[Outcomes], Mapping[str, ProbePriority]]) -> Outcomes:
        await self._wait(needed)
        found = self._found()
        others = {name: answer for name, answer in found.items() if name not in self._not_probed}
        last_hopes = [
            name for name, need in needed(others).items() if need is ProbePriority.ONLY and name in self._not_probed
        ]
        if last_hopes:
            self._ask(last_hopes)
            await self._wait(needed)
            found = self._found()
        slow = "it has not answered yet, and the other hosts are enough"
        for name in self._tasks.keys() - found.keys():
            found[name] = Unreachable(slow, alive=True, known=self._known[name].facts)
        return found

    async def _wait(self, needed: Callable[[Outcomes], Mapping[str, ProbePriority]]) -> None:
        """Wait until no host without an answer is worth waiting for (`probe_deadline`)."""
        time = asyncio.get_running_loop().time
        began, enough = time(), inf
        notices = iter(_NOTICES_AFTER_S)
        told_after = next(notices)
        while silent := {name: task for name, task in self._tasks.items() if not task.done()}:
            need = {name: priority for name, priority in needed(self._found()).items() if name in silent}
            most = max(need.values(), default=ProbePriority.NONE)
            if most < ProbePriority.MODE:
                enough = min(enough, time())
            until = probe_deadline(most, began, enough)
            if time() >= until:
                return
            if time() >= began + told_after:
                waited = [name for name, priority in need.items() if priority is most]
                self._emit(Notice(f"waiting for {', '.join(waited)} to answer, {told_after:.0f} s so far"))
                told_after = next(notices, inf)
            soonest = min(until, began + told_after)
            timeout = None if isinf(soonest) else max(0.0, soonest - time())
            await asyncio.wait(silent.values(), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _found(self) -> Outcomes:
        answers = {name: task.result() for name, task in self._tasks.items() if task.done()}
        return mark_duplicates(self._inventory, answers, self._machines) | self._not_probed

    def _last(self) -> dict[str, Facts | None]:
        return {name: known.facts for name, known in self._known.items()}

    async def _probe(self, host: Host) -> Facts | Unreachable:
        last = self._known[host.name].facts
        try:
            async with asyncio.timeout(host.connect_timeout + _PROBE_TIMEOUT_S):
                client = await self._farm.client(host.name)
                asked_at = self._clock()
                observation = await client.probe()
        except TimeoutError:
            return Unreachable(f"no answer to the probe in {_PROBE_TIMEOUT_S:.0f} s", alive=True, known=last)
        except ArchloomError as error:
            # The lines that display this message begin with the host's name.
            message = error.message.removeprefix(f"host '{host.name}': ")
            if error.code == Cause.UNREACHABLE:
                self._fact_cache.record_silence(host, message, error.hint)
            return Unreachable(message, error.hint, alive=error.code != Cause.UNREACHABLE, known=last)
        machine = f"{client.hello.machine_id} {client.hello.boot_id}"
        facts = with_pins(host, self._fact_cache.record(host, observation, machine, self._clock() - asked_at))
        self._machines[host.name] = machine
        self._farm.facts[host.name] = facts
        return facts
