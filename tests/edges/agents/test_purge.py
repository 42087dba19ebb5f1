"""A purge: what the agent takes away from a user's folders, and how both sides speak of it."""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
from pathlib import Path

import pytest

from agents.base import state
from agents.base.errors import AgentError
from agents.base.trees import remove_tree
from agents.server.purge import Places, purge_all
from coordinator.errors import LostError
from coordinator.hosts.agent.local import LocalTransport
from coordinator.hosts.agent.purge import Purged, purge
from tests.services.paths import CASES

GOLDEN = CASES / "wire" / "purge.txt"
MARK = "archloom:ada@beast"
OURS = b"ssh-ed25519 BBBB archloom:ada@beast\n"
KEYS = b"# archloom:ada@beast\nssh-ed25519 AAAA mine\r\n" + OURS + b"\nssh-rsa CC archloom:bob@beast\n"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """One user's folders on a host without an engine."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    home = tmp_path / "home"
    state = home / ".local" / "state" / "archloom-agent" / "0123"
    (state / "jobs").mkdir(parents=True)
    cache = home / ".cache" / "archloom"
    cache.mkdir(parents=True)
    for name in ("archloom-agent-0a.pyz", "archloom-agent-0b.pyz", ".archloom-agent-0c.pyz.17"):
        (cache / name).touch()
    (home / ".ssh").mkdir()
    (home / ".ssh" / "authorized_keys").write_bytes(KEYS)
    return Places((state, tmp_path / "spare"), home, (cache, tmp_path / "no"), tmp_path / "locks")


def test_ours_goes_and_the_rest_stays(places: Places):
    """Every version of the agent, its state, and the one line of the key; again there is nothing to do."""
    mine = places.agents[0] / "mine.txt"
    mine.touch()
    done = purge_all(places, MARK)
    assert done["keys"] == 1
    assert (places.home / ".ssh" / "authorized_keys").read_bytes() == KEYS.replace(OURS, b"")
    assert [path.name for path in places.agents[0].iterdir()] == ["mine.txt"]
    assert not places.states[0].parent.exists()
    again = purge_all(places, MARK)
    assert again == {"jobs": 0, "images": [], "files": [], "keys": 0, "kept": []}


def test_a_folder_that_is_not_ours_is_not_followed(places: Places, tmp_path: Path):
    """A link in a place where everybody may write leads nowhere."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "archloom-agent-0a.pyz").touch()
    places.agents[1].symlink_to(victim)
    purge_all(places, MARK)
    assert [path.name for path in victim.iterdir()] == ["archloom-agent-0a.pyz"]


def test_state_that_another_user_planted_is_not_ours(tmp_path: Path):
    """In a place where everybody may write only a folder that we made, and nobody else may write, is looked into."""
    planted = tmp_path / f"archloom-{os.getuid()}"
    planted.mkdir(mode=0o700)
    assert len(state.folders({}, [tmp_path])) == 2
    planted.chmod(0o777)
    assert len(state.folders({}, [tmp_path])) == 1
    planted.rmdir()
    planted.symlink_to(tmp_path)
    assert len(state.folders({}, [tmp_path])) == 1


def test_a_tree_that_is_a_link_is_unlinked(tmp_path: Path):
    """What it leads to keeps its modes and its files."""
    victim = tmp_path / "victim"
    (victim / "inner").mkdir(parents=True)
    victim.chmod(0o755)
    (tmp_path / "tree").symlink_to(victim)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").is_symlink()
    assert victim.stat().st_mode & 0o777 == 0o755
    assert (victim / "inner").is_dir()


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path):
    """Not the folder above it, which is not empty then."""
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/inner/file").touch()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="tree") as failed:
            remove_tree(tmp_path / "tree")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert failed.value.errno == errno.EMFILE


@pytest.mark.parametrize("mark", ["", "mine", "archloom:", "archloom:a b"])
def test_a_mark_of_nobody_is_refused(places: Places, mark: str):
    """A line of the user's own must never match."""
    with pytest.raises(AgentError):
        purge_all(places, mark)
    assert (places.home / ".ssh" / "authorized_keys").read_bytes() == KEYS


def test_the_agent_says_what_the_golden_file_has(places: Places):
    """The same members, of the same types."""
    said = json.loads(GOLDEN.read_text().partition(" ")[2])["ok"]
    done = purge_all(places, MARK)
    assert {name: type(value) for name, value in done.items()} == {name: type(value) for name, value in said.items()}


async def test_the_coordinator_reads_the_golden_file():
    """As values; the mark went to the agent's stdin."""
    script = "import sys; assert sys.stdin.read() == sys.argv[2] + chr(10); print(open(sys.argv[1]).read())"
    transport = LocalTransport((sys.executable, "-c", script, str(GOLDEN), MARK))
    assert await purge(transport, MARK) == Purged(
        jobs=1,
        images=("archloom/7f3a:amd64-1", "localhost:1/library/base:1-00"),
        files=("/home/pi/.local/state/archloom-agent/0123456789abcdef",),
        keys=1,
        kept=("images and lock files that another user's builds may need: /run/lock/archloom-BTQE/slot-0",),
    )
    await transport.close()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit('no Python')", "without a reply: no Python"),
        ('print(\'archloom-agent {"error": {"code": "engine", "message": "it is down"}}\')', "it is down"),
        ('print(\'archloom-agent {"ok": {"jobs": 1}}\')', "cannot be read"),
    ],
)
async def test_a_purge_that_fails_says_why(script: str, message: str):
    """The host stays listed for another try."""
    transport = LocalTransport((sys.executable, "-c", f"import sys; sys.stdin.read(); {script}"))
    with pytest.raises(LostError) as lost:
        await purge(transport, MARK)
    assert message in lost.value.message
    await transport.close()
