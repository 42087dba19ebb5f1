"""Hosts asked at once: who is waited for, who is left alone, and what is remembered of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Address, Inventory, Kind
from coordinator.domain.image.platforms import Mode
from coordinator.domain.placement.eligibility import JobRequirements, Unreachable
from coordinator.domain.run.events import Notice
from coordinator.domain.targets.host_selection import HostSelection
from coordinator.domain.targets.target import Emulate
from coordinator.environment import Environment
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.probe import Probing
from coordinator.state.open_store import open_store_if_usable
from coordinator.store.sqlite import Store
from tests.edges.farm.scripted_farm import DEAD, DENIED, Script, ScriptedFarm
from tests.unit.placement.farms import ARM64, PLATFORMS, host

AMD64 = PLATFORMS[0]
FARM = Inventory(hosts=(host("pi4"), host("beast", Kind.EMULATOR)))
BEAST = Script("amd64-qemu-user-static")


@dataclass
class Bed:
    """The runs of one user: a store, and a clock that the test moves."""

    folder: Path
    now: float = 1763930000.0
    told: list[str] = field(default_factory=list)

    @property
    def env(self) -> Environment:
        return Environment(
            environ={}, home=self.folder, folder=self.folder, state=self.folder, clock=lambda: self.now, holder="u@m"
        )

    def emit(self, event) -> None:
        assert isinstance(event, Notice)
        self.told.append(event.text)

    @asynccontextmanager
    async def run(self, inventory: Inventory = FARM, **scripts: Script):
        """The probing of one run, and the farm it asks. Nothing goes on when it is over."""
        farm = ScriptedFarm(inventory, scripts, lambda: self.now)
        before = asyncio.all_tasks()
        with Store(self.folder / "archloom.db", lambda: self.now) as store:
            async with Probing(farm, inventory, FactCache(store, lambda: self.now), self.env, self.emit) as probing:
                yield probing, farm
        assert asyncio.all_tasks() <= before


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def jobs(*platforms):
    return [JobRequirements(platform=platform) for platform in platforms]


async def test_every_host_answers_and_is_remembered(bed):
    """The next run knows what this one found, before anybody has answered."""
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        found = await probing.facts_for_planning(jobs(ARM64), HostSelection())

    assert found["pi4"].mode(ARM64) is Mode.NATIVE
    assert farm.facts["pi4"] == found["pi4"]
    with Store(bed.folder / "archloom.db", lambda: bed.now) as store:
        known = FactCache(store, lambda: bed.now).known(FARM.hosts[0])
    assert known.facts == found["pi4"]
    assert known.last_probe.machine == "pi4 pi4"


async def test_a_dead_host_is_left_alone_for_a_minute(bed):
    """It costs its connect timeout once; the next run says when it was tried and will be, and a later one tries."""
    async with bed.run(pi4=Script(DEAD), beast=BEAST) as (probing, _):
        first = await probing.facts_for_planning(jobs(ARM64), HostSelection())
    bed.now += 12
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        second = await probing.facts_for_planning(jobs(ARM64), HostSelection())
        tried = farm.asked["pi4"]
    bed.now += 49
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        third = await probing.facts_for_planning(jobs(ARM64), HostSelection())

    assert first["pi4"] == Unreachable("no SSH answer from pi4.lan port 22 in 5 s", "try: ping -c 1 pi4.lan")
    assert tried == 0
    assert second["pi4"].message == "no SSH answer from pi4.lan port 22 in 5 s, 12 s ago; it is asked again in 48 s"
    assert isinstance(third["pi4"], Facts)


async def test_an_answer_ends_the_silence(bed):
    """A host that was off and is back is asked by the next run at once."""
    async with bed.run(pi4=Script(DEAD), beast=BEAST) as (probing, _):
        await probing.facts_for_planning(jobs(ARM64), HostSelection())
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, _):
        await probing.all(["pi4"])
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        await probing.facts_for_planning(jobs(ARM64), HostSelection())

    assert farm.asked["pi4"] == 1


@pytest.mark.parametrize(
    "selection",
    [HostSelection(on=("pi4",)), HostSelection(pinned={ARM64: "pi4"}), HostSelection(emulate=Emulate.NEVER)],
)
async def test_a_dead_host_is_tried_when_it_is_named_or_the_last_hope(bed, selection):
    """Who names it wants it, and a platform that nobody else can build is worth its timeout."""
    async with bed.run(pi4=Script(DEAD), beast=BEAST) as (probing, _):
        await probing.facts_for_planning(jobs(ARM64), HostSelection())
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        found = await probing.facts_for_planning(jobs(ARM64), selection)

    assert farm.asked["pi4"] == 1
    assert isinstance(found["pi4"], Facts)


async def test_an_entry_that_leads_elsewhere_starts_anew(bed):
    """What was said of the old address is not said of the new one."""
    moved = Inventory(hosts=(replace(FARM.hosts[0], address=Address(host="new.lan")), FARM.hosts[1]))
    async with bed.run(pi4=Script(DEAD), beast=BEAST) as (probing, _):
        await probing.facts_for_planning(jobs(ARM64), HostSelection())
    async with bed.run(moved, pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        await probing.facts_for_planning(jobs(ARM64), HostSelection())

    assert farm.asked["pi4"] == 1


async def test_what_answers_and_does_not_serve_is_not_dead(bed):
    """A key to be copied is told at once when it is there, and the host is asked by every run."""
    async with bed.run(pi4=Script(DENIED), beast=BEAST) as (probing, _):
        found = await probing.facts_for_planning(jobs(ARM64), HostSelection())
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        await probing.facts_for_planning(jobs(ARM64), HostSelection())

    assert found["pi4"] == Unreachable("pi@pi4.lan refused the login", "ssh-copy-id pi@pi4.lan", alive=True)
    assert farm.asked["pi4"] == 1


async def test_a_slow_native_board_is_waited_for(bed):
    """The emulator has answered and could do it: the board that may do it natively is still worth the time."""
    slow = asyncio.Event()
    async with bed.run(pi4=Script("pi4", slow), beast=BEAST) as (probing, farm):
        placing = asyncio.create_task(probing.facts_for_planning(jobs(AMD64, ARM64), HostSelection()))
        async with asyncio.timeout(60):
            while "beast" not in farm.facts:
                await asyncio.sleep(0)
        await asyncio.wait({placing}, timeout=1.5)
        waited = not placing.done()
        slow.set()
        found = await placing

    assert waited
    assert found["pi4"].mode(ARM64) is Mode.NATIVE


async def test_who_waits_is_told_for_whom(bed):
    """In one line, within 3 s, and again for a long wait."""
    slow = asyncio.Event()
    async with bed.run(pi4=Script("pi4", slow), beast=BEAST) as (probing, _):
        placing = asyncio.create_task(probing.facts_for_planning(jobs(ARM64), HostSelection()))
        async with asyncio.timeout(60):
            while not bed.told:
                await asyncio.sleep(0.05)
        slow.set()
        await placing

    assert bed.told == ["waiting for pi4 to answer, 3 s so far"]


async def test_a_slow_board_that_is_not_needed_is_not_waited_for(bed):
    """The others do it as well: it gets a second, and is then left out with its reason."""
    two = Inventory(hosts=(host("pi4"), host("pi5")))
    begun = time.monotonic()
    async with bed.run(two, pi4=Script("pi4"), pi5=Script("pi5-16k", asyncio.Event())) as (probing, _):
        found = await probing.facts_for_planning(jobs(ARM64), HostSelection())
    spent = time.monotonic() - begun

    assert found["pi5"] == Unreachable("it has not answered yet, and the other hosts are enough", alive=True)
    assert 0.9 < spent < 3.0


async def test_a_board_known_to_be_of_no_use_costs_nothing(bed):
    """It was a 32-bit Pi when it last answered, and arm64 has its board."""
    two = Inventory(hosts=(host("pi2"), host("pi4")))
    async with bed.run(two, pi2=Script("pi2"), pi4=Script("pi4")) as (probing, _):
        await probing.all(["pi2", "pi4"])
    begun = time.monotonic()
    async with bed.run(two, pi2=Script("pi2", asyncio.Event()), pi4=Script("pi4")) as (probing, _):
        await probing.facts_for_planning(jobs(ARM64), HostSelection())

    assert time.monotonic() - begun < 0.8


async def test_hosts_that_are_ruled_out_are_not_asked(bed):
    """--on names others: nothing is to be known of them."""
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, farm):
        await probing.facts_for_planning(jobs(ARM64), HostSelection(on=("beast",)))

    assert farm.asked == {"beast": 1}


async def test_a_board_that_is_off_still_names_its_platforms(bed):
    """Switching it off changes who builds, not what is built."""
    async with bed.run(pi4=Script("pi4"), beast=BEAST) as (probing, _):
        await probing.all(["pi4"])
    async with bed.run(pi4=Script(DEAD), beast=BEAST) as (probing, _):
        found = await probing.facts_for_platforms()

    assert isinstance(found["pi4"], Unreachable)
    assert found["pi4"].known.in_mode(Mode.NATIVE) == (ARM64,)


async def test_two_entries_of_one_machine_are_found_out(bed):
    """By the boot they tell of, whichever answered first."""
    two = Inventory(hosts=(host("pi4"), host("pi4b")))
    async with bed.run(two, pi4=Script("pi4", machine="m"), pi4b=Script("pi4", machine="m")) as (probing, _):
        found = await probing.all(["pi4b", "pi4"])

    assert found["pi4"].blocking is None
    assert found["pi4b"].blocking.code == "same_machine"


async def test_a_defect_is_not_a_host_that_does_not_answer(bed):
    """What nobody foresaw ends the run."""
    async with bed.run(pi4=Script(ZeroDivisionError("here")), beast=BEAST) as (probing, _):
        with pytest.raises(ZeroDivisionError):
            await probing.facts_for_planning(jobs(ARM64), HostSelection())


async def test_a_run_that_is_stopped_leaves_nothing_behind(bed):
    """Cancelled while it waits, it has ended every question when the block is left."""
    async with bed.run(pi4=Script("pi4", asyncio.Event()), beast=BEAST) as (probing, _):
        placing = asyncio.create_task(probing.facts_for_planning(jobs(ARM64), HostSelection()))
        await asyncio.sleep(0)
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing


async def test_without_a_store_hosts_are_asked_all_the_same(bed):
    """The state folder is a file: said once, and nothing is remembered."""
    state = bed.folder / "state"
    state.write_text("")
    env = replace(bed.env, state=state)
    farm = ScriptedFarm(FARM, {"pi4": Script(DEAD), "beast": BEAST}, lambda: bed.now)

    with open_store_if_usable(env, bed.emit) as store:
        async with Probing(farm, FARM, FactCache(store, env.clock), env, bed.emit) as probing:
            found = await probing.all(["pi4", "beast"])

    assert isinstance(found["beast"], Facts)
    assert bed.told == [f"no facts of the hosts are cached: cannot use the state folder {state}: File exists"]
