"""Whether the driver of a run lives is told by its pid, its start and the boot together, on real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from coordinator.domain.run.lease import Driver
from coordinator.store.processes import is_alive, this_driver
from tests.services.commands import Child, run_limited
from tests.services.missing import program
from tests.services.paths import ROOT

NAME = """
import dataclasses, json, sys
from coordinator.store.processes import this_driver
print(json.dumps(dataclasses.asdict(this_driver("u@m", "t"))), flush=True)
sys.stdin.read()
"""


# As a user without rights, who has loaded the program before.
LOOKS = """
import json, os, sys
from coordinator.domain.run.lease import Driver
from coordinator.store.processes import is_alive
driver = Driver(**json.loads(sys.argv[1]))
assert is_alive(driver)
os.setgid(65534)
os.setuid(65534)
print(is_alive(driver))
"""


def started(*before: str) -> tuple[Child, Driver]:
    """A process that says which one it is, and lives until its stdin is closed."""
    process = Child(
        [*before, sys.executable, "-c", NAME], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, Driver(**json.loads(process.line()))


def test_this_process_lives():
    """It says who it is for, and is found by it."""
    driver = this_driver("ada@here", "token")

    assert (driver.token, driver.holder, driver.pid) == ("token", "ada@here", os.getpid())
    assert is_alive(driver) is True


def test_another_process_lives_until_it_ends():
    """And is gone then, also where its parent has not taken notice yet: a zombie drives nothing."""
    process, driver = started()
    assert is_alive(driver) is True

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now

    assert is_alive(driver) is False
    process.communicate()
    assert is_alive(driver) is False


def test_a_pid_that_was_given_again_is_another_process():
    """The start time tells them apart."""
    assert is_alive(replace(this_driver("u@m", "t"), started="1")) is False


@pytest.mark.parametrize("boot_id", ["", "another boot pid:[4026531836]"])
def test_of_another_boot_nothing_can_be_told(boot_id):
    """The same pid on another machine, or before a reboot, is no evidence for either."""
    assert is_alive(replace(this_driver("u@m", "t"), boot_id=boot_id)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace needs root")
def test_of_another_container_nothing_can_be_told():
    """Its pids are counted anew: a coordinator in one that shares the state folder is not dead because we have no such
    pid, nor alive because we have."""
    process, driver = started(program("unshare"), "--pid", "--fork", "--mount-proc")

    assert is_alive(driver) is None
    process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount needs root")
def test_a_process_that_is_hidden_is_not_taken_for_dead():
    """Where /proc shows users only their own, another user's driver may well live: nothing can be told."""
    unshare = [program("unshare"), "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"]
    words = [*unshare, sys.executable, "-c", LOOKS, json.dumps(asdict(this_driver("u@m", "t")))]
    done = run_limited(words, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "None"
