"""Coordinator and agent together, for tests: real processes, a scripted driver in place of an engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from coordinator.context.offer import offer
from coordinator.context.tree import scan
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.hosts.agent.client import AgentClient, connect
from coordinator.hosts.agent.local import LocalTransport
from coordinator.hosts.agent.replies import ContextReceived, Ended, LogText
from tests.services.paths import CASES

if TYPE_CHECKING:
    import pytest

HERE = Path(__file__).parent
STAND_IN = str(HERE / "stand_in_agent.py")
REQUESTS = (CASES / "wire" / "requests.jsonl").read_bytes()
SPEC = json.loads(REQUESTS.splitlines()[1])["spec"]


def oldest_python() -> str:
    """3.9 where there is one: boards have it."""
    # Not pyenv's shim of that name, which may lead nowhere.
    found = sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"))
    return str(found[0]) if found else shutil.which("python3.9") or sys.executable


@contextmanager
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Folders of this test's own, and no process of it left afterwards."""
    (tmp_path / "slots").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STAND_IN_SLOTS", str(tmp_path / "slots"))
    monkeypatch.setenv("STAND_IN_DISCARDED", str(tmp_path / "discarded"))
    yield
    for path in tmp_path.glob("state/*/*/jobs/*/process.json"):
        with suppress(ProcessLookupError):
            os.killpg(json.loads(path.read_text())["pid"], signal.SIGKILL)


@asynccontextmanager
async def agent(*command: str) -> AsyncIterator[AgentClient]:
    transport = LocalTransport(command or (sys.executable, STAND_IN))
    try:
        client = await connect(transport)
        try:
            yield client
        finally:
            await client.close()
    finally:
        await transport.close()


async def send(client: AgentClient, job: str, **files: bytes) -> ContextReceived:
    """The job's context: these files."""
    with TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        offered = await offer(await scan(Path(folder), compile_ignore("")))
        return await client.send_context(job, offered, lambda _: None)


async def chunks(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def ready(client: AgentClient, job: str, *steps: tuple[str, object]) -> Path:
    """A job that can be started; its folder."""
    await client.create(job, {**SPEC, "image": f"archloom/test:{job}", "dockerfile": json.dumps(steps)})
    await send(client, job, file=b"content")
    return Path(client.hello.state, "jobs", job)


async def begin(client: AgentClient, job: str, *steps: tuple[str, object]) -> Path:
    folder = await ready(client, job, *steps)
    await client.start(job, f"test {job}", 1)
    return folder


async def follow(client: AgentClient, job: str, offset: int = 0) -> tuple[str, Ended]:
    text = ""
    async with aclosing(client.follow(job, offset)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Ended):
                return text, piece
            text += piece.text
    raise AssertionError("no end")


async def first_piece(client: AgentClient, job: str) -> LogText | Ended:
    """What is told first; until then, wait."""
    async with aclosing(client.follow(job, 0)) as pieces:
        return await anext(pieces)


def process_of(folder: Path) -> int:
    return int(json.loads((folder / "process.json").read_text())["pid"])


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
