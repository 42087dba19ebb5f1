"""A farm whose hosts answer when and what a test says: what `runner.probe` asks of a farm, without any host."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Host, Inventory
from coordinator.errors import LostError
from coordinator.farm.farm import slots_of
from coordinator.hosts.agent.replies import Hello
from tests.unit.placement.farms import observation

DEAD = LostError(
    "host 'pi4': no SSH answer from pi4.lan port 22 in 5 s", hint="try: ping -c 1 pi4.lan", code="unreachable"
)
DENIED = LostError("host 'pi4': pi@pi4.lan refused the login", hint="ssh-copy-id pi@pi4.lan", code="denied")


@dataclass(slots=True)
class Script:
    """`answer` is the name of an observation, or what connecting raises. `when`: it says nothing before this is set."""

    answer: str | Exception
    when: asyncio.Event | None = None
    machine: str = ""


@dataclass(slots=True)
class ScriptedFarm:
    """`asked` counts the connections made to each host."""

    inventory: Inventory
    scripts: Mapping[str, Script]
    clock: Any
    asked: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Facts] = field(default_factory=dict)
    ask_facts: object = None

    @property
    def hosts(self) -> Mapping[str, Host]:
        return {host.name: host for host in self.inventory.hosts}

    @property
    def slots(self) -> Mapping[str, int]:
        return {name: slots_of(self.hosts[name], facts) for name, facts in self.facts.items()}

    async def client(self, name: str) -> ScriptedClient:
        self.asked[name] += 1
        script = self.scripts[name]
        if script.when is not None:
            await script.when.wait()
        if isinstance(script.answer, Exception):
            raise script.answer
        return ScriptedClient(script.answer, script.machine or name, self.clock)


class ScriptedClient:
    def __init__(self, seen: str, machine: str, clock: Any) -> None:
        self.hello = Hello(
            agent="x", python="3", pid=1, parent=1, parent_start=1, machine_id=machine, boot_id=machine, state="/x"
        )
        self._seen = seen
        self._clock = clock

    async def probe(self) -> dict[str, Any]:
        return {**observation(self._seen), "time": self._clock()}
