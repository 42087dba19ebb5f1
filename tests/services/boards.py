"""Boards: each a machine of its own as far as SSH, its engine and the network can tell, on this one's kernel.

A board is a set of namespaces with a root of its own over this machine's, its own sshd, host key, engine, users, homes,
/run, machine id and boot id. It can be switched off, unplugged, slowed down and flashed anew.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services import board_disk
from tests.services.board_lab import Lab, run
from tests.services.board_link import Link
from tests.services.board_spec import BoardSpec
from tests.services.commands import Child
from tests.services.engine import SocketConnection

INIT = Path(__file__).with_name("board_init.sh")
# Longer than anything here takes on a busy machine.
PATIENCE = 60.0
LIST_IMAGES = ("images", "--format", "{{.Repository}}:{{.Tag}}")


def ours(listed: str) -> list[str]:
    """The names of ours among those that `LIST_IMAGES` prints."""
    return [name for name in listed.split() if name.startswith(("archloom/", "localhost:1/", "127.0.0.1"))]


@dataclass(slots=True, kw_only=True, eq=False)
class Board:
    """Off, it answers nothing at all. `key` is the file of the private key that logs in as `user`.

    `address` and `second_address` both lead to it; at `gateway` it sees who is at the other end of its cable.
    """

    spec: BoardSpec
    address: str
    second_address: str
    gateway: str
    machine_id: str
    key: Path
    behind: Board | None
    _folder: Path
    _link: Link
    _kernel_name: str
    _process: Child | None = None
    _unplugged: bool = False
    port: int = 22

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def user(self) -> str:
        return self.spec.user

    @property
    def host_key(self) -> str:
        """The public line of the key it has: `ssh-ed25519 AAAA…`."""
        return board_disk.host_key(self._folder)

    @property
    def fingerprint(self) -> str:
        """Of its key: `SHA256:…`."""
        return run("ssh-keygen", "-l", "-f", str(board_disk.public_key_file(self._folder))).split()[1]

    @property
    def home(self) -> Path:
        """Its user's home as this machine sees it, also when the board is off, unless it is on a disk of its own."""
        if any(Path(self.spec.home).is_relative_to(place) for place, _ in self.spec.disks):
            return Path(f"/proc/{self.pid}/root{self.spec.home}")
        return board_disk.outside(self._folder, self.spec.home)

    @property
    def log(self) -> str:
        """What its sshd, its engine and its start said, so far."""
        return board_disk.log(self._folder)

    @property
    def is_on(self) -> bool:
        return self._process is not None

    def power_on(self) -> None:
        """Boots it: a new boot id, the same disks. It answers when this returns, unless it is unplugged."""
        assert not self.is_on, f"{self.name} is on"
        self._link.open()
        if self._unplugged:
            self._link.cut()
        board_disk.new_boot_id(self._folder)
        with (self._folder / "init.log").open("ab") as log:
            self._process = Child(
                [
                    *("nsenter", f"--net={self._link.namespace}"),
                    *("unshare", "--mount", "--uts", "--pid", "--ipc", "--fork", "--kill-child", *_since_now()),
                    *("--propagation", "private", "bash", str(INIT)),
                ],
                env=board_disk.environment(self._folder, self.spec),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._wait_for(self._is_up)

    def power_off(self) -> None:
        """Cuts its power: every process is gone at once, and whoever talks to it hears nothing more."""
        if self._process is None:
            return
        self._link.cut()
        with suppress(OSError, IndexError):
            os.kill(self.pid, signal.SIGKILL)  # the rest of the board is gone before its first process is
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process = None
        _until(lambda: board_disk.is_released(self._folder, self.spec), lambda: "a disk of the board is still mounted")
        board_disk.sweep_cgroups(self._kernel_name)

    def unplug(self) -> None:
        """Pulls the cable: packets vanish, either way; nothing is refused, and the board goes on."""
        self._unplugged = True
        self._link.cut()

    def plug(self) -> None:
        self._unplugged = False
        if self.is_on:
            self._link.mend()

    def bandwidth(self, rate: str | None) -> None:
        """The cable carries this much each way (`10mbit`); None: as much as there is."""
        self._link.limit(rate)

    def loss(self, percent: int) -> None:
        """So many packets of a hundred vanish on the cable, each way, until it is said otherwise or it is off."""
        if self.is_on:
            self._link.lose(percent)

    def new_host_key(self) -> None:
        """Its card is flashed anew: it has another key. Who is logged in stays."""
        if not self.is_on:
            board_disk.new_host_key(self._folder / "upper")
        else:
            # Through the board: what changes below a mounted root from outside need not be seen.
            board_disk.new_host_key(Path(f"/proc/{self.pid}/root"))
            self.run(board_disk.RESTART)
            self._wait_for(self._has_sshd)

    def fill(self, place: str, *, leave: int = 0) -> None:
        """Takes all the room there is below a folder of the board but so many bytes."""
        free = int(self.run(f"df -B1 --output=avail {place}").split()[-1])
        self.run(f"fallocate -l {free - leave} {place}/filler")

    def restore(self) -> None:
        """On, plugged and fast, whatever a test did to it."""
        self.plug()
        if not self.is_on:
            self.power_on()
        self.bandwidth(None)
        self.loss(0)

    def clear(self) -> None:
        """Take away what ended jobs left there, and another coordinator would keep for a day."""
        jobs = self.jobs()
        for job in jobs:
            shutil.rmtree(job)
        images = self.held() if jobs else []
        if images:
            self.docker("rmi", "--force", *images)

    def jobs(self) -> list[Path]:
        """The folders of the jobs that its agent has, whoever sent them."""
        paths = self.home.glob(".local/state/archloom-agent/*/jobs/*")
        return [path for path in paths if not path.name.startswith(".")]

    def held(self) -> list[str]:
        """Names of ours in its engine."""
        return ours(self.docker(*LIST_IMAGES))

    def run(self, command: str, *, stdin: str = "") -> str:
        """What a shell command prints as root of the board, without SSH. Raises CalledProcessError."""
        spaces = ("--mount", "--uts", "--pid", "--ipc", "--net", "--root", "--wd")
        clean = ("env", "-i", f"PATH={board_disk.PATH}", "HOME=/root", "sh", "-c")
        return run("nsenter", f"--target={self.pid}", *spaces, *clean, command, stdin=stdin)

    def jobs_of(self, run: str) -> list[Path]:
        """The folders that this run's jobs have on the board. Others' may lie there until it is next used by them."""
        return list(self.home.glob(f".local/state/archloom-agent/*/jobs/{run}-*"))

    def docker(self, *arguments: str) -> str:
        """What this machine's docker command prints when it talks to the board's engine, without SSH."""
        return run("docker", "--host", f"unix://{self.engine_socket}", *arguments)

    @property
    def engine_socket(self) -> Path:
        """The socket of its engine, as this machine sees it while the board is on."""
        return Path(f"/proc/{self.pid}/root/run/docker.sock")

    @property
    def pid(self) -> int:
        """Of its first process, as this machine counts. Raises IndexError where there is none."""
        assert self._process is not None, f"{self.name} is off"
        launcher = self._process.pid
        return int(Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[0])

    def _is_up(self) -> bool:
        return self._has_sshd() and (not self.spec.engine or self._has_engine())

    def _has_sshd(self) -> bool:
        """It writes its pid when it listens, where the board has no file at first, and this machine none at all."""
        with suppress(OSError, IndexError):
            return Path(f"/proc/{self.pid}/root{board_disk.SSHD_PID}").read_text().endswith("\n")
        return False

    def _has_engine(self) -> bool:
        connection = SocketConnection(self.engine_socket)
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().read() == b"OK"
        except OSError:
            return False
        finally:
            connection.close()

    def _wait_for(self, up: Callable[[], bool]) -> None:
        process = self._process
        assert process is not None
        _until(lambda: up() or process.poll() is not None, lambda: f"{self.name} is not up yet:\n{self.log}")
        assert process.poll() is None, f"{self.name} went down as it came up:\n{self.log}"


def _since_now() -> list[str]:
    """What makes a board's time since boot begin now, where the kernel can.

    After a reboot a process may then have the pid and the start time that another had before.
    """
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return ["--time", f"--boottime=-{int(uptime)}"] if Path("/proc/self/ns/time").exists() else []


def _until(done: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    tick = threading.Event()
    for _ in range(round(PATIENCE / 0.02)):
        if done():
            return
        tick.wait(0.02)
    raise AssertionError(otherwise())


@contextmanager
def board(where: Lab, spec: BoardSpec, behind: Board | None = None) -> Iterator[Board]:
    """A board that is on. `behind`: its cable ends in that board, and nothing else reaches it."""
    with where.place() as number, ExitStack() as stack:
        name, base = f"{where.name}{number}", number * 8
        folder = where.folder / f"{spec.name}-{uuid.uuid4().hex[:8]}"
        stack.callback(shutil.rmtree, folder, ignore_errors=False)
        machine_id = spec.machine_id or uuid.uuid4().hex
        board_disk.make(folder, spec, name, machine_id, where.key)
        link = Link(
            outside=name,
            gateway=f"{where.subnet}.{base + 1}",
            addresses=(f"{where.subnet}.{base + 2}", f"{where.subnet}.{base + 3}"),
            behind=behind._link if behind else None,
        )
        stack.callback(link.close)
        if behind:
            behind._link.beyond.append(link)
            stack.callback(behind._link.beyond.remove, link)
        made = Board(
            spec=spec,
            address=link.addresses[0],
            second_address=link.addresses[1],
            gateway=link.gateway,
            machine_id=machine_id,
            key=where.key,
            behind=behind,
            _folder=folder,
            _link=link,
            _kernel_name=name,
        )
        stack.callback(made.power_off)
        made.power_on()
        yield made
