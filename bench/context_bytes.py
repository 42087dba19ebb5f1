"""A context to a host against rsync: bytes on the wire for one changed file of many, and seconds for the first time.

`python bench/context_bytes.py [FILES] [KILOBYTES]`, 10000 files of 100 kB unless told, in 100 folders; three times that
must fit below the temporary folder. Both go over a pipe to this machine; rsync counts its own bytes.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import run
from coordinator.context.offer import offer
from coordinator.context.tree import scan
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.hosts.agent.client import connect
from coordinator.hosts.agent.local import local
from tests.edges.hosts.agent_bed import SPEC

RSYNC = ("rsync", "--archive", "--no-whole-file", "--stats")
# rsync's own remote shell, without a network: the words after the host are the command.
SHELL = ("--rsh", "sh -c 'shift; exec \"$@\"' sh")


@dataclass
class Counted:
    """One end of a channel, with the bytes that went through it."""

    end: Any
    counts: Counts

    def write(self, data: bytes) -> None:
        self.counts.sent += len(data)
        self.end.write(data)

    async def read(self, most: int) -> bytes:
        data = await self.end.read(most)
        self.counts.received += len(data)
        return data

    async def drain(self) -> None:
        await self.end.drain()

    def write_eof(self) -> None:
        self.end.write_eof()


@dataclass
class Counts:
    sent: int = 0
    received: int = 0

    @property
    def both(self) -> int:
        return self.sent + self.received


@dataclass
class CountedChannel:
    channel: Any
    counts: Counts

    def __post_init__(self) -> None:
        self.reader = Counted(self.channel.reader, self.counts)
        self.writer = Counted(self.channel.writer, self.counts)
        self.close = self.channel.close
        self.abort = self.channel.abort


@dataclass
class CountedTransport:
    """This machine, where the bytes of bulk channels are counted."""

    transport: Any
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.host = self.transport.host
        self.open_control = self.transport.open_control
        self.listen = self.transport.listen
        self.close = self.transport.close

    async def open_bulk(self, arguments: tuple[str, ...]) -> CountedChannel:
        return CountedChannel(await self.transport.open_bulk(arguments), self.counts)


class Ours:
    """The agent of this machine with a state folder of its own; each transfer is another job's."""

    def __init__(self, client: Any, transport: CountedTransport, context: Path) -> None:
        self._client = client
        self._transport = transport
        self._context = context
        self._number = 0

    async def send(self) -> tuple[float, int]:
        """Seconds from the scan to the agent's answer, and bytes."""
        self._number += 1
        job = f"bench-{self._number}"
        await self._client.create(job, {**SPEC, "image": f"archloom/bench:{self._number}"})
        before = self._transport.counts.both
        begun = time.perf_counter()
        offered = await offer(await scan(self._context, compile_ignore("")))
        await self._client.send_context(job, offered, lambda _: None)
        return time.perf_counter() - begun, self._transport.counts.both - before


def rsynced(context: Path, copy: Path) -> tuple[float, int]:
    begun = time.perf_counter()
    command = [*RSYNC, *SHELL, f"{context}/", f"here:{copy}"]
    said = run(command)
    seconds = time.perf_counter() - begun
    return seconds, sum(int(count.replace(",", "")) for count in re.findall(r"Total bytes \w+: ([\d,]+)", said))


@contextmanager
def context(files: int, kilobytes: int) -> Iterator[tuple[Path, Path]]:
    """A folder of random files in 100 folders, and another for what becomes of it."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary, "context")
        for number in range(files):
            path = root / f"folder-{number % 100:02}" / f"file-{number:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(kilobytes * 1000))
        yield root, Path(temporary)


async def main(files: int, kilobytes: int) -> None:
    if shutil.which("rsync") is None:
        raise SystemExit("rsync is not here; install it: sudo apt-get install rsync")
    with context(files, kilobytes) as (root, place):
        os.environ["XDG_STATE_HOME"] = str(place / "state")
        transport = CountedTransport(local(dict(os.environ), "local"))
        client = await connect(transport)
        ours = Ours(client, transport, root)
        print(f"{files} files of {kilobytes} kB")
        tell("the first time", await ours.send(), rsynced(root, place / "rsync"))
        tell("again", await ours.send(), rsynced(root, place / "rsync"))
        changed = root / "folder-42" / "file-00042.bin"
        changed.write_bytes(os.urandom(kilobytes * 1000))
        tell("one file changed", await ours.send(), rsynced(root, place / "rsync"))
        with changed.open("r+b") as file:
            file.write(b"a few bytes")
        tell("a few bytes of one file changed", await ours.send(), rsynced(root, place / "rsync"))
        await client.close()
        await transport.close()


def tell(what: str, ours: tuple[float, int], theirs: tuple[float, int]) -> None:
    print(
        f"{what}: ours {ours[1]} bytes in {ours[0]:.2f} s, rsync {theirs[1]} bytes in {theirs[0]:.2f} s, "
        f"ratio {ours[1] / theirs[1]:.2f} in bytes, {ours[0] / theirs[0]:.2f} in time",
        flush=True,
    )


if __name__ == "__main__":
    words = [*map(int, sys.argv[1:])]
    asyncio.run(main(*[*words, *(10000, 100)[len(words) :]]))
