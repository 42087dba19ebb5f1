"""Hundreds of hosts probed at once: seconds, memory of each connection, what they cost while they idle, and dead ones.

`python bench/fleet.py [HOSTS] [IDLE]`, 300 and 60 s unless told. The hosts are SSH servers of a process of their own,
each with an agent by script: half of the machine's work is theirs. The dead ones take connections and say nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from coordinator.domain.hosts.inventory import Address, Host, Inventory, Kind
from coordinator.domain.run.events import Event
from coordinator.environment import Environment
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.farm import Farm
from coordinator.farm.probe import Outcomes, Probing
from coordinator.state.open_store import open_store_if_usable
from tests.services.commands import Child
from tests.services.fleet import Behaviour, Greeting, fleet
from tests.services.fleet_agent import observed, probed

DEAD = 10


async def serve(count: int) -> None:
    """The fleet until stdin ends; its hosts as one JSON line, and then the dead ones."""
    sound, dead = [probed(observed("pi5-16k"))] * count, [Behaviour(greeting=Greeting.MUTE)] * DEAD
    async with fleet(*sound, *dead) as made:
        key = made.host_key.export_public_key().decode().strip()
        print(json.dumps([[board.host, board.port, key] for board in made.boards]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def served(count: int) -> Iterator[list[Host]]:
    command = [sys.executable, __file__, "serve", str(count)]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        yield [
            Host(name=f"host{number}", kind=Kind.BOARD, address=Address(host, "pi", port), host_key=key)
            for number, (host, port, key) in enumerate(json.loads(process.line()))
        ]
        process.stdin.close()


@dataclass(frozen=True, slots=True)
class Usage:
    """Of this process: seconds by the clock and of CPU, and resident bytes now and at most."""

    clock: float
    cpu: float
    memory: int
    peak: int


def usage() -> Usage:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(time.perf_counter(), time.process_time(), pages * resource.getpagesize(), used.ru_maxrss * 1024)


@contextlib.asynccontextmanager
async def asked(hosts: list[Host], folder: Path) -> AsyncIterator[Outcomes]:
    """What these hosts are; connected inside."""
    state, environ = folder / "state", {"HOME": str(folder)}
    env = Environment(environ=environ, home=folder, folder=folder, state=state, clock=time.time, holder="bench")
    inventory = Inventory(hosts=tuple(hosts))
    with open_store_if_usable(env, _quiet) as store:
        fact_cache = FactCache(store, env.clock)
        async with Farm(inventory, env) as farm, Probing(farm, inventory, fact_cache, env, _quiet) as probing:
            found = await probing.all(host.name for host in hosts)
            yield found


def _quiet(_event: Event) -> None:
    pass


async def measure(hosts: list[Host], folder: Path, idle: float) -> None:
    sound = hosts[:-DEAD]
    async with asked(sound[:1], folder):
        pass  # imports and keys
    before = usage()
    async with asked(sound, folder):
        after = usage()
        print(
            f"{len(sound)} hosts probed in {after.clock - before.clock:.2f} s, "
            f"{(after.clock - before.clock) / len(sound) * 1000:.1f} ms a host, "
            f"{(after.cpu - before.cpu) / len(sound) * 1000:.1f} ms of CPU; "
            f"{(after.memory - before.memory) / len(sound) / 1024:.0f} KiB a connection, "
            f"{after.memory >> 20} MiB in all (peak {after.peak >> 20})"
        )
        await asyncio.sleep(idle)
        rested = usage()
        print(
            f"idle: {(rested.cpu - after.cpu) * 60 / (rested.clock - after.clock):.2f} s of CPU a minute, "
            f"{(rested.cpu - after.cpu) * 60 / (rested.clock - after.clock) / len(sound) * 1000:.1f} ms a connection"
        )
    before = usage()
    random.Random(1).shuffle(hosts)
    async with asked(hosts, folder) as found:
        after = usage()
    silent = sum("no SSH answer" in getattr(one, "message", "") for one in found.values())
    print(f"with {silent} dead hosts among them: {after.clock - before.clock:.2f} s")


def main(count: int, idle: float) -> None:
    with tempfile.TemporaryDirectory() as folder, served(count) as hosts:
        os.environ["HOME"] = folder
        os.environ.pop("SSH_AUTH_SOCK", None)
        asyncio.run(measure(hosts, Path(folder), idle))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    match sys.argv[1:]:
        case ["serve", number]:
            asyncio.run(serve(int(number)))
        case words:
            size, rest = [*map(int, words), *(300, 60)[len(words) :]]
            main(size, rest)
