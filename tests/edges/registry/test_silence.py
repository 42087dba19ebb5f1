"""A registry that keeps a request waiting is named, with the seconds; one that answers is not."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack

import pytest

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import RegistryError
from coordinator.registry.client import Registry
from coordinator.registry.requests import PULL
from coordinator.registry.silence import Silence
from tests.edges.registry.scripted_server import Reply, scripted


class NoCredentials:
    def credentials(self, registry: str, repository: str) -> None:  # noqa: ARG002
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

    assert lines == [f"registry {name} has not answered for 3 s (request: reach registry {name})"]


async def test_a_try_that_failed_is_told_of_before_the_pause(lines):
    """Once for the tries and requests of ten seconds: a wait has other lines."""
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

    assert len(pauses) == 2
    assert [line.startswith(f"registry {name}: ") for line in lines] == [True]
    assert lines[0].endswith("; trying again in 1 s")


class SetClock(asyncio.SelectorEventLoop):
    """A loop whose time only the test moves on."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        """Let this time pass, a tenth of a second after the other."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.run_until_complete(asyncio.sleep(0))


@pytest.fixture
def clock():
    loop = SetClock()
    yield loop
    loop.close()


def opened(clock: SetClock, silence: Silence, doing: str) -> ExitStack:
    async def begin() -> None:
        request.enter_context(silence.watched(doing))

    request = ExitStack()
    clock.run_until_complete(begin())
    return request


def answered(clock: SetClock, request: ExitStack) -> None:
    async def end() -> None:
        request.close()

    clock.run_until_complete(end())


def test_a_registry_that_answers_is_not_silent(lines, clock):
    """Requests of a quarter of a second that overlap, so that one is always open."""
    silence = Silence("nas", lines.append)
    request = opened(clock, silence, "0")
    for number in range(1, 34):
        clock.passes(0.2)
        following = opened(clock, silence, str(number))
        answered(clock, request)
        request = following
    assert lines == []

    clock.passes(3.1)

    assert lines == ["registry nas has not answered for 3 s (request: 33)"]


def test_a_silence_counts_from_the_last_answer(lines, clock):
    """The oldest open request is named, and each line comes once; nothing is told when none is open."""
    silence = Silence("nas", lines.append)
    stuck, other = (opened(clock, silence, doing) for doing in ("stuck", "other"))
    clock.passes(2)
    answered(clock, other)
    clock.passes(2)
    assert lines == []

    clock.passes(200)
    answered(clock, stuck)
    clock.passes(200)

    assert lines == [
        f"registry nas has not answered for {seconds} s (request: stuck)" for seconds in (3, 10, 30, 60, 90)
    ]


async def test_an_answer_that_does_not_end_is_told_of_too(lines):
    """Its head has come, and half of its body."""
    told = asyncio.Event()

    def tell(line: str) -> None:
        lines.append(line)
        told.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{")
        await writer.drain()
        await told.wait()
        writer.write(b"}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Registry(RegistrySettings(host=name), NoCredentials(), tell=tell) as registry:
            async with asyncio.timeout(30):
                await registry.check_reachable()

    assert lines == [f"registry {name} has not answered for 3 s (request: reach registry {name})"]


async def test_a_credential_helper_that_waits_for_its_user_is_told_of(lines):
    """It may ask in a window that nobody sees. Of one that answers at once nothing is told."""
    told = threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        told.set()

    class Slow:
        def credentials(self, registry: str, repository: str) -> Credential:  # noqa: ARG002
            if not lines:
                told.wait(30)
            return Credential(username="ann", password=Secret("x"))

    challenge = {"WWW-Authenticate": 'Basic realm="r"'}
    async with (
        scripted(lambda _: Reply(401, headers=challenge)) as server,
        Registry(RegistrySettings(host=server.host), Slow(), tell=tell) as registry,
    ):
        for repository in ("slow", "quick"):
            assert (await registry.authorization(repository, PULL)).headers

    asked = "its credentials are not read yet; does a credential helper wait for you?"
    assert lines == [f"registry {server.host}: {asked}"]
