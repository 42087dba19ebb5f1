"""What kind of board a test wants, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSpec:
    """A board as it leaves the shop. The defaults are a sound one: root may log in, and an engine runs.

    `user`: who logs in; any other than root is made, as a member of `groups`.
    `shell`: its login shell's name. `motd`: what that shell prints on stdout, without a line's end, for every command.
    `authorized`: the key of `Board.key` opens the door; `password`: so does this password, where there is one.
    `system`: the files below its own: this machine's (''), or a Debian suite's (`trixie`, `sid`) with its engine.
    `engine`: a container engine runs; a board without one is up much faster. `store`: its image store, by driver:
    `overlay2`, or `containerd` for containerd's (Docker 25 and newer). `containerd`: containerd is a service of its own
    beside the engine, as packages install it. `engine_environment`: what the engine is started with.
    `hidden`: programs the board does not have, by glob (`python*`, `docker`).
    `sshd`: lines of its sshd_config that go before ours (`AllowTcpForwarding no`). `sftp`: it has that subsystem.
    `mounts`: options for folders (`("/tmp", "noexec")`, `("/root", "ro")`).
    `disks`: folders on an ext4 disk of their own, of so many MiB.
    `clock`: seconds that every process of a login sees the clock off, times of files too; the engine sees the true one.
    `machine_id`: a cloned card's; else the board has its own.
    """

    name: str = "board"
    user: str = "root"
    groups: tuple[str, ...] = ("docker",)
    shell: str = "bash"
    motd: str = ""
    authorized: bool = True
    password: str = ""
    system: str = ""
    engine: bool = True
    store: str = "overlay2"
    containerd: bool = False
    engine_environment: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    sshd: tuple[str, ...] = ()
    sftp: bool = True
    mounts: tuple[tuple[str, str], ...] = ()
    disks: tuple[tuple[str, int], ...] = ()
    clock: int = 0
    machine_id: str = ""

    @property
    def home(self) -> str:
        return "/root" if self.user == "root" else f"/home/{self.user}"
