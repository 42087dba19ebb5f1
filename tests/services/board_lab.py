"""What boards share: a subnet that no other test run uses, a key that opens them, and what sweeps up behind them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tests.services.commands import Child, run_limited
from tests.services.missing import missing, program

_NEEDED = (
    "bash ssh ssh-keygen sshd dockerd docker ip iptables tc unshare nsenter mount mkfs.ext4 losetup useradd chpasswd"
)
_LOCKS = Path("/run/lock")
# Sweeps when its stdin ends, which is when the tests do, however they end. The boards have died of the same by then, or
# are about to: a folder that is still busy is tried again.
_JANITOR = """
cat
ip route del unreachable "$1"
for link in /sys/class/net/"$2"*; do
    [ -e "$link" ] && ip link del "${link##*/}" # the kernel would, some time
done
for try in 1 2 3 4 5 6 7 8 9 10; do
    find /sys/fs/cgroup -depth -type d -path "*/$2*" -exec rmdir {} \\;
    rm -rf "$3" && break
    sleep 0.3
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """`name` begins the names of its boards' things in the kernel; `subnet` is what addresses begin with."""

    name: str
    subnet: str
    folder: Path
    key: Path
    free: set[int] = field(default_factory=lambda: set(range(32)))

    @contextmanager
    def place(self) -> Iterator[int]:
        """A number below 32 that one board has at a time."""
        number = self.free.pop()
        try:
            yield number
        finally:
            self.free.add(number)


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """A lab whose boards have their disks below this folder; nothing is left of it, even if the tests are killed."""
    _require()
    with ExitStack() as stack:
        number, lock = _own_number()
        stack.enter_context(lock)
        name, subnet = f"albed{number}-", f"198.18.{number}"
        folder.mkdir(parents=True)
        if run("stat", "--file-system", "--format=%T", str(folder)).strip() == "overlayfs":
            missing(f"{folder} is on an overlay, where boards can have no disks: give pytest a --basetemp elsewhere")
        key = folder / "id_ed25519"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "archloom tests", "-f", str(key))
        # What no board has must not go looking for it on the network around.
        run("ip", "route", "replace", "unreachable", f"{subnet}.0/24")
        janitor = Child(
            ["sh", "-c", _JANITOR, "janitor", f"{subnet}.0/24", name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock.fileno()],  # the number is free when it is swept
        )
        try:
            yield Lab(name=name, subnet=subnet, folder=folder, key=key)
        finally:
            janitor.communicate()


def run(*command: str, stdin: str = "") -> str:
    """The output of a command that works. Raises CalledProcessError, whose notes have the command's last words."""
    words = [program(command[0]), *command[1:]]
    return str(run_limited(words, capture_output=True, text=True, input=stdin, check=True).stdout)


def _require() -> None:
    """Everything boards are made of is on this machine, and may be used."""
    if os.geteuid():
        missing("boards are made by root only")
    os.environ["PATH"] += "" if "/usr/sbin" in os.environ["PATH"].split(":") else ":/usr/sbin:/sbin"
    for name in _NEEDED.split():
        program(name)
    command = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true"]
    tried = run_limited(command, capture_output=True)
    if tried.returncode:
        missing(f"this machine has no namespaces for boards: {tried.stderr.decode().strip()}")


def _own_number() -> tuple[int, BinaryIO]:
    """A number that no other test run on this machine has while this one lives, and its lock."""
    number = 0
    while True:
        file = (_LOCKS / f"archloom-test-boards-{number}").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            number += 1
        else:
            return number, file
