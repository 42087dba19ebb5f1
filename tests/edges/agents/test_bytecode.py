"""The agent keeps what Python compiled of it beside its file, and runs as well where it cannot."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.hosts.agent.bundle import bundle
from tests.edges.hosts.agent_bed import oldest_python
from tests.services.commands import run_limited


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """Its file, alone in a folder."""
    return bundle({"XDG_CACHE_HOME": str(tmp_path)})


def kept(agent: Path) -> list[Path]:
    return [path for path in agent.parent.iterdir() if path != agent]


def loaded_from(agent: Path, *launcher: str, python: str = sys.executable) -> set[str]:
    """The archives its modules came from. It has to have answered."""
    ran = run_limited(
        [*launcher, python, "-v", "-W", "error", agent, "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"archloom-agent {agent.stem.removeprefix('archloom-agent-')}, protocol 1\n"
    found = re.findall(r"""^import '?agents\.server\.cli'? .*?(/[^ "]+)/agents/""", ran.stderr, re.MULTILINE)
    assert len(found) == 1
    return set(found)


@pytest.mark.parametrize("python", sorted({sys.executable, oldest_python()}))
def test_it_is_compiled_once(agent: Path, python: str):
    """The first start leaves one file, and every start uses it, on this Python and the oldest at hand."""
    first = loaded_from(agent, python=python)
    [cache] = kept(agent)
    before = cache.stat()

    assert first == loaded_from(agent, python=python) == {str(cache)}
    assert kept(agent) == [cache]
    assert cache.stat() == before
    assert before.st_mode & 0o777 == 0o600


def test_many_may_start_at_once(agent: Path):
    """Each of them answers, and one whole file stays."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: loaded_from(agent), range(8)))

    [cache] = kept(agent)
    assert loaded_from(agent) == {str(cache)}


def test_a_folder_that_takes_nothing_is_no_obstacle(agent: Path):
    """As on a full disk: the agent comes from its own file, and leaves no part of another."""
    assert loaded_from(agent, "sh", "-c", 'ulimit -f 8; exec "$@"', "sh") == {str(agent)}
    assert kept(agent) == []


@pytest.mark.parametrize("damage", ["empty", "half", "a byte of code", "a byte of the checksum", "zeros"])
def test_what_is_damaged_is_written_again(agent: Path, damage: str):
    """A worn card, or a power cut: the agent runs, and from what it has compiled anew."""
    loaded_from(agent)
    [cache] = kept(agent)
    data = bytearray(cache.read_bytes())
    match damage:
        case "empty":
            cache.write_bytes(b"")
        case "half":
            cache.write_bytes(data[: len(data) // 2])
        case "zeros":
            cache.write_bytes(bytes(len(data)))
        case "a byte of code":
            data[data.index(b"agents/server/cli.py") + 300] ^= 0xFF
            cache.write_bytes(data)
        case _:
            data[0] ^= 1
            cache.write_bytes(data)

    assert loaded_from(agent) == {str(cache)}
    assert loaded_from(agent) == {str(cache)}
    assert kept(agent) == [cache]


@pytest.mark.parametrize("damage", ["folder", "others may write", "link"])
def test_what_is_not_ours_alone_is_not_used(agent: Path, tmp_path: Path, damage: str):
    """Whatever lies there, the agent runs, and from its own file."""
    loaded_from(agent)
    [cache] = kept(agent)
    match damage:
        case "folder":
            cache.unlink()
            cache.mkdir()
        case "others may write":
            cache.chmod(0o622)
        case "link":
            cache.symlink_to(cache.rename(tmp_path / "elsewhere"))

    assert loaded_from(agent) == {str(agent)}
