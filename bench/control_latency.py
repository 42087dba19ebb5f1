"""How long a small request takes on the control connection while a push saturates the link, and on the push's own.

`python bench/control_latency.py`. One board, a push of a layer through the tunnel over and over, and `jobs` asked
meanwhile, at several speeds of the link. The second way, everything on one connection, is an experiment here only.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.lab import Bench, bench
from coordinator.domain.hosts.inventory import Address, Host, Kind
from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.ssh.bootstrap import AgentFile
from coordinator.hosts.ssh.login_limiter import LoginLimiter
from coordinator.hosts.ssh.transport import SshTransport, ssh
from tests.services.board_spec import BoardSpec

RATES = (None, "100mbit", "10mbit")
SECONDS = 12.0
_EVERY_S = 0.05
_PATIENCE_S = 60.0
_UNDER_WAY = 300_000
_PUSH = "import socket; s = socket.create_connection(('127.0.0.1', {port}))\nwhile True: s.sendall(bytes(65536))"


@dataclass(slots=True)
class ByteCounter:
    """What the tunnel serves, in place of a registry: reads all it can, as the broker of a fast one."""

    received: int = 0
    busy: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            self.received += len(chunk)
            if self.received > _UNDER_WAY:
                self.busy.set()


class OneConnection(SshTransport):
    """The experiment: what is heavy goes over the control connection."""

    async def _take_bulk(self):  # type: ignore[no-untyped-def] # noqa: ANN202
        assert self._control is not None
        self._control.users += 1
        return self._control

    async def _leave_bulk(self, bulk) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
        bulk.users -= 1


async def measure(at: Bench, make: Callable[[Host], SshTransport]) -> tuple[list[float], float]:
    """Seconds of each round trip, and bytes a second that the push got through."""
    [where] = at.boards
    host = Host(name=where.name, kind=Kind.BOARD, address=Address(where.name))
    transport = make(host)
    client = await connect(transport)
    counter = ByteCounter()
    tunnel = await transport.listen(counter)
    # From the board, in a process of its own that ends with its connection.
    pushing = await asyncio.create_subprocess_exec(
        "nsenter", f"--target={where.pid}", "--net", "--pid", "--mount", "--root",
        "timeout", str(SECONDS + 10), "python3", "-c",
        _PUSH.format(port=tunnel.port),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await asyncio.wait_for(counter.busy.wait(), _PATIENCE_S)
        return await asked(client, counter)
    finally:
        pushing.terminate()
        await asyncio.wait_for(pushing.wait(), _PATIENCE_S)
        await tunnel.close()
        await client.close()
        await transport.close()


async def asked(client: AgentClient, counter: ByteCounter) -> tuple[list[float], float]:
    loop = asyncio.get_running_loop()
    begun, before, trips = loop.time(), counter.received, []
    while loop.time() - begun < SECONDS:
        asking = loop.time()
        await client.jobs()
        trips.append(loop.time() - asking)
        await asyncio.sleep(_EVERY_S)
    return trips, (counter.received - before) / (loop.time() - begun)


def told(found: tuple[list[float], float]) -> str:
    trips, rate = found
    cuts = statistics.quantiles(trips, n=100)
    return (
        f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, most {max(trips) * 1000:.0f} ms "
        f"({len(trips)} round trips, push {rate / 1e6:.1f} MB/s)"
    )


def main() -> None:
    with bench(BoardSpec(name="pi-a", engine=False)) as at:
        os.environ.update(at.environment)

        def single(host: Host) -> SshTransport:
            return OneConnection(host, AgentFile(bundle(at.environment)), LoginLimiter())

        for rate in RATES:
            at.boards[0].bandwidth(rate)
            ours = asyncio.run(measure(at, lambda host: ssh(host, at.environment, LoginLimiter())))
            print(f"{rate or 'unlimited'}, control beside the push: {told(ours)}")
            theirs = asyncio.run(measure(at, single))
            print(f"{rate or 'unlimited'}, all on one connection:   {told(theirs)}")


if __name__ == "__main__":
    main()
