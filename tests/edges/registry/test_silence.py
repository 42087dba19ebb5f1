"""A registry that keeps a request waiting is named, with the seconds; one that answers is not."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.errors import RegistryError
from coordinator.registry.client import Registry


class NoCredentials:
    def credentials(self, registry: str) -> None:  # noqa: ARG002
        return None


@pytest.fixture
def lines() -> list[str]:
    return []


async def test_a_silent_registry_is_told_of_within_three_seconds(lines):
    """Once for all who wait, and no more once it has answered."""
    told = asyncio.Event()

    def tell(line: str) -> None:
        lines.append(line)
        told.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await told.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Registry(RegistrySettings(host=name), NoCredentials(), tell=tell) as registry:
            async with asyncio.timeout(30):
                await asyncio.gather(registry.check_reachable(), registry.check_reachable())

    assert lines == [f"registry {name} has not answered for 3 s: reach registry {name}"]


async def test_a_try_that_failed_is_told_of_before_the_pause(lines):
    """A registry that is busy for a moment, and then answers."""
    pauses: list[float] = []
    answers = iter([b"200 OK", b"503 Busy", b"503 Busy", b"200 OK"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" % next(answers))
        await writer.drain()
        writer.close()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = RegistrySettings(host=name)
        async with Registry(settings, NoCredentials(), tell=lines.append, sleep=sleep, random=lambda: 0.5) as registry:
            with pytest.raises(RegistryError):
                await registry.get_manifest("team/app", f"sha256:{'0' * 64}")

    assert len(pauses) == len(lines) == 2
    assert all(line.startswith(f"registry {name}: ") for line in lines)
    assert [line.rpartition("; ")[2] for line in lines] == ["trying again in 1 s", "trying again in 1 s"]
