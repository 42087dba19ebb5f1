"""The import of asyncssh, which takes 0.1 s and waits for programs."""

from __future__ import annotations

import subprocess
import sys

from tests.services.commands import run_limited
from tests.services.paths import ROOT

_CODE = """
import asyncio, sys, threading, time
from pathlib import Path

from coordinator.domain.hosts.inventory import Address, Host, Inventory, Kind
from coordinator.environment import Environment
from coordinator.errors import LostError
from coordinator.farm.farm import Farm

class Watched:
    def find_spec(self, name, path=None, target=None):
        if name == "asyncssh":
            print("on the loop" if threading.current_thread() is threading.main_thread() else "beside the loop")

async def main():
    here = Path(sys.argv[1])
    env = Environment(environ={}, home=here, folder=here, state=here, clock=time.time, holder="u@m")
    board = Host(name="board", kind=Kind.BOARD, address=Address("127.0.0.1", "pi", 1), connect_timeout=1.0)
    async with Farm(Inventory(hosts=(board,)), env) as farm:
        try:
            await farm.client("board")
        except LostError as error:
            print(error.message)

sys.meta_path.insert(0, Watched())
asyncio.run(main())
"""


def test_registries_are_asked_while_asyncssh_is_imported(tmp_path, monkeypatch):
    """What the event loop imports stops everything else on it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_limited(
        [sys.executable, "-c", _CODE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60
    )

    assert done.stdout.splitlines() == ["beside the loop", "host 'board': nothing listens on 127.0.0.1 port 1"]
