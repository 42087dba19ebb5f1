"""Probing through the real SSH transport: boards that are quick, slow, mute, or hang after their banner."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.domain.hosts.facts import Facts
from coordinator.domain.hosts.inventory import Address, Host, Inventory, Kind
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.placement.eligibility import JobRequirements, Unreachable
from coordinator.domain.targets.host_selection import HostSelection
from coordinator.environment import Environment
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.farm import Farm
from coordinator.farm.probe import Probing
from coordinator.state.open_store import open_store_if_usable
from tests.services.fleet import Behaviour, Board, Greeting, fleet
from tests.services.fleet_agent import observed, probed

AMD64, ARM64 = parse("linux/amd64"), parse("linux/arm64")


def board(case: str, **more) -> Behaviour:
    """A machine of its own: the fleet's agents all greet with the ids of one."""
    seen = dict(observed(case))
    seen["engine"] = {**seen["engine"], "id": case}
    return replace(probed({**seen, "time": time.time()}), **more)


def entry(one: Board, name: str, kind: Kind = Kind.BOARD, timeout: float = 1.0) -> Host:
    pin = one.host_key.export_public_key().decode().strip()
    address = Address(one.host, "pi", one.port)
    return Host(name=name, kind=kind, address=address, host_key=pin, connect_timeout=timeout)


@pytest.fixture
def read_environment(tmp_path: Path, monkeypatch) -> Environment:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Environment(
        environ={"HOME": str(tmp_path)},
        home=tmp_path,
        folder=tmp_path,
        state=tmp_path / "state",
        clock=time.time,
        holder="u@m",
    )


@asynccontextmanager
async def probing(inventory: Inventory, read_environment: Environment):
    async with AsyncExitStack() as stack:
        fact_cache = FactCache(stack.enter_context(open_store_if_usable(read_environment, print)), time.time)
        farm = await stack.enter_async_context(Farm(inventory, read_environment))
        yield await stack.enter_async_context(Probing(farm, inventory, fact_cache, read_environment, print))


async def test_the_slow_board_is_waited_for_and_the_others_are_not(read_environment):
    """The one that may run arm64 natively takes its time; the mute one is dead, and that which hangs is not needed."""
    behaviours = (
        board("pi4", delay=2.0),
        board("amd64-qemu-user-static"),
        Behaviour(greeting=Greeting.MUTE),
        Behaviour(greeting=Greeting.BANNER),
    )
    async with fleet(*behaviours) as made:
        slow, quick, mute, hung = made.boards
        inventory = Inventory(
            hosts=(
                entry(slow, "slow"),
                entry(mute, "mute"),
                entry(hung, "hung"),
                entry(quick, "quick", Kind.EMULATOR),
            )
        )
        before = asyncio.all_tasks()
        began = time.monotonic()
        async with probing(inventory, read_environment) as run:
            found = await run.facts_for_planning(
                [JobRequirements(platform=AMD64), JobRequirements(platform=ARM64)], HostSelection()
            )
            planned = time.monotonic() - began
        left = time.monotonic() - began - planned
        async with probing(inventory, read_environment) as run:
            again = await run.facts_for_planning(
                [JobRequirements(platform=AMD64), JobRequirements(platform=ARM64)], HostSelection()
            )
        tries = mute.counts.connections
        assert asyncio.all_tasks() - before == {task for task in asyncio.all_tasks() if task in made.sessions}

    assert isinstance(found["slow"], Facts)
    assert found["slow"].mode(ARM64) is Mode.NATIVE
    assert found["mute"].message == f"no SSH answer from 127.0.0.1 port {mute.port} in 1 s"
    assert not found["mute"].alive
    assert found["hung"] == Unreachable("it has not answered yet, and the other hosts are enough", alive=True)
    assert planned < 10
    assert left < 5
    assert tries == 1
    assert "is asked again in" in again["mute"].message


async def test_a_board_that_hangs_is_not_dead(read_environment):
    """It has said its banner: it is waited for as long as a login may take, and asked by the next run again."""
    async with fleet(Behaviour(greeting=Greeting.BANNER), board("pi4")) as made:
        hung, quick = made.boards
        inventory = Inventory(hosts=(entry(hung, "hung"), entry(quick, "pi4")))
        async with probing(inventory, read_environment) as run:
            await run.facts_for_planning([JobRequirements(platform=ARM64)], HostSelection())
        async with probing(inventory, read_environment) as run:
            await run.facts_for_planning([JobRequirements(platform=ARM64)], HostSelection())

        assert hung.counts.connections == 2
