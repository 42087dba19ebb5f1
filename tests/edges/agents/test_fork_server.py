"""The fork server outlives a host that has no room for another process."""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from collections.abc import Sequence
from pathlib import Path

from agents.base.slots import Slot
from agents.job.store import CONTEXT, mark_arrived
from agents.server import fork_server, start
from tests.edges.agents.login_bed import NOBODY, home_of_nobody
from tests.services.missing import missing

REPORTING = ["/bin/sh", "-c", 'echo "{}" > "/proc/self/fd/$4"', "sh"]


def report(words: Sequence[str]) -> int:
    os.write(int(words[3]), b"{}")
    return 0


def started(home: Path, name: str, server: fork_server.ForkServer, command: Sequence[str]) -> dict[str, object]:
    job = home / name
    (job / CONTEXT).mkdir(parents=True)
    mark_arrived(job)
    return start.start(job, server, command, lambda: Slot(0, os.open(os.devnull, os.O_RDONLY)))


def test_a_server_that_cannot_fork_once_goes_on():
    """Meanwhile a program is started. To root no number of processes is too large."""
    if os.geteuid():
        missing("root is needed, to be a user with a limit of its own")

    def work(home: Path) -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        server = fork_server.fork(report)
        child = int(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()[0])
        unlimited = resource.prlimit(child, resource.RLIMIT_NPROC)
        resource.prlimit(child, resource.RLIMIT_NPROC, (0, unlimited[1]))
        assert started(home, "first", server, REPORTING) == {"pid": 0, "slot": 0}
        resource.prlimit(child, resource.RLIMIT_NPROC, unlimited)
        assert started(home, "second", server, ["/bin/false"]) == {"pid": 0, "slot": 0}

    with home_of_nobody() as home:
        child = multiprocessing.get_context("fork").Process(target=work, args=(home,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
