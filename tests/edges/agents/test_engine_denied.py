"""A user who may not use the engine: the real agent as that user, asked by the real coordinator."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from coordinator.domain.hosts.facts import read_facts
from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.agent.client import connect
from coordinator.hosts.agent.local import LocalTransport
from tests.services.missing import missing

NOBODY = 65534


@pytest.mark.engine
async def test_a_user_outside_the_docker_group_gets_the_cure(engine: Path, tmp_path: Path):
    """The host is blocked with the command that adds the user to the group, and the word that a new login is needed."""
    if os.geteuid() != 0:
        missing("another user to be: run as root")
    # pytest's folders are private to the user who runs it.
    folder = Path("/var/tmp", f"archloom-denied-{os.getpid()}")
    folder.mkdir()
    folder.chmod(0o755)
    try:
        agent = shutil.copyfile(bundle({"XDG_CACHE_HOME": str(tmp_path)}), folder / "agent.pyz")
        agent.chmod(0o644)
        (folder / "state").mkdir()
        os.chown(folder / "state", NOBODY, NOBODY)
        become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        command = (*become, "env", f"XDG_STATE_HOME={folder}/state", "/usr/bin/python3", str(agent))
        transport = LocalTransport(command, "here")
        client = await connect(transport)
        observation = await client.probe()
        await client.close()
        await transport.close()
    finally:
        shutil.rmtree(folder)

    facts = read_facts("here", observation, now=observation["time"], round_trip=0.0)

    assert facts.blocking is not None
    assert "usermod -aG docker" in facts.blocking.hint
