"""Faults of a board as a machine: its cable, its power, its sshd, its disks."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from signal import SIGCONT, SIGKILL, SIGSTOP

from tests.chaos.processes import Process, all_are, has_stopped, programs, send
from tests.chaos.scene import Act, Kind, Scene, Target, waited, was_full

ANY_TIME = ("start", "context", "running", "push")
_FILES = "/var/lib/docker/chaos-inodes"
_MARGIN = 16 << 20
_COVER = """
mkdir -p /mnt/chaos
mount --rbind /var/lib/docker /mnt/chaos
mount --make-rprivate /mnt/chaos
mount -o remount,bind,ro /mnt/chaos
mount --move /mnt/chaos /var/lib/docker
"""
_TAKE_INODES = f"""
import os
os.makedirs("{_FILES}")
try:
    for number in range(1 << 22):
        if number % 1000 == 0:
            os.mkdir(f"{_FILES}/{{number // 1000}}")
        os.mknod(f"{_FILES}/{{number // 1000}}/{{number}}")
except OSError:
    pass
"""


def _answers(scene: Scene) -> bool:
    """Whether sshd greets, within a second."""
    with suppress(OSError), socket.create_connection((scene.board.address, 22), 1) as connection:
        connection.settimeout(1)
        return connection.recv(4) == b"SSH-"
    return False


def _is_silent(scene: Scene) -> bool:
    return not _answers(scene)


def _plug(scene: Scene) -> None:
    if scene.board.is_on:
        scene.board.plug()
    else:  # it was also switched off, by another fault
        scene.board._unplugged = False


def _power_on(scene: Scene) -> None:
    if not scene.board.is_on:
        scene.board.power_on()


def _reboot(scene: Scene) -> None:
    """In order: whoever is connected is told, and jobs get a signal, as when systemd stops them."""
    for number in (signal.SIGTERM, SIGKILL):
        send(programs(scene.processes(), "sshd:", "python3"), number)
        waited(lambda: False, 0.3)
    scene.board.power_off()


def _cut(seconds: float) -> Kind:
    return Kind(
        target=Target.BOARD,
        about=f"the board's cable is pulled for {seconds:.0f} s",
        strike=lambda scene: scene.board.unplug(),
        heal=_plug,
        is_on=_is_silent,
        stages=ANY_TIME,
        lasts=(seconds,),
        scaled=True,
    )


def _sshds(scene: Scene) -> list[Process]:
    return programs(scene.processes(), "sshd:", "sshd")


def _stop_sshd(scene: Scene) -> None:
    for _ in range(3):  # one may just begin another
        send(_sshds(scene), SIGSTOP)


def _start_sshd(scene: Scene) -> None:
    if scene.board.is_on and not any("[listener]" in one.command for one in _sshds(scene)):
        scene.board.run("/usr/sbin/sshd -E /var/log/sshd.log")


def _no_room(place: Callable[[Scene], str]) -> Callable[[Scene], bool]:
    return lambda scene: scene.board.run(f"echo x >{place(scene)}/.chaos 2>&1 && echo room || true").strip() != "room"


def _filled(place: Callable[[Scene], str]) -> tuple[Act, Act]:
    def strike(scene: Scene) -> None:
        # Large files take blocks for themselves, and others write meanwhile: the rest byte by byte.
        disk = place(scene)
        scene.board.fill(disk, leave=_MARGIN)
        # Asked at once: a program that notices may make room.
        scene.kept["free"] = int(
            scene.board.run(f"cat /dev/zero >{disk}/chaos-rest 2>/dev/null; df -B1 --output=avail {disk}").split()[-1]
        )

    def heal(scene: Scene) -> None:
        if scene.board.is_on:
            scene.board.run(f"rm -f {place(scene)}/filler {place(scene)}/chaos-rest {place(scene)}/.chaos")

    return strike, heal


def _engine_disk(_: Scene) -> str:
    return "/var/lib/docker"


def _state_disk(scene: Scene) -> str:
    return scene.board.spec.home


def _cover(scene: Scene) -> None:
    """A mount over it that was read-only before anybody saw it: one whose files are open cannot become so."""
    scene.board.run(_COVER)


def _uncover(scene: Scene) -> None:
    if scene.board.is_on and "ro," in scene.board.run("findmnt -n -o OPTIONS /var/lib/docker | tail -n 1"):
        scene.board.run("umount --recursive --lazy /var/lib/docker")


def _power_cycle(scene: Scene) -> None:
    """What a file system that has met an error asks for."""
    if scene.board.is_on:
        scene.board.power_off()
    scene.board.power_on()


def _give_inodes(scene: Scene) -> None:
    if scene.board.is_on:
        scene.board.run(f"rm -rf {_FILES} /var/lib/docker/.chaos")


_fill_engine, _empty_engine = _filled(_engine_disk)
_fill_state, _empty_state = _filled(_state_disk)

BOARD_FAULTS = {
    **{f"cut-{seconds}": _cut(seconds) for seconds in (3, 15, 70, 300)},
    "loss-20": Kind(
        target=Target.BOARD,
        about="every fifth packet is lost",
        strike=lambda scene: scene.board.loss(20),
        heal=lambda scene: scene.board.loss(0),
        is_on=lambda scene: "statistic" in scene.board._link.inner("iptables", "-w", "-S"),
        stages=ANY_TIME,
        lasts=(6, 15, None),
    ),
    "1mbit": Kind(
        target=Target.BOARD,
        about="the cable carries 1 Mbit/s",
        strike=lambda scene: scene.board.bandwidth("1mbit"),
        heal=lambda scene: scene.board.bandwidth(None),
        is_on=lambda scene: "1Mbit" in scene.board._link.inner("tc", "qdisc", "show", "dev", "eth0"),
        stages=ANY_TIME,
        lasts=(10, None),
    ),
    "off": Kind(
        target=Target.BOARD,
        about="the board loses its power",
        strike=lambda scene: scene.board.power_off(),
        heal=_power_on,
        is_on=_is_silent,
        stages=("before", *ANY_TIME),
        lasts=(None,),
    ),
    "reset": Kind(
        target=Target.BOARD,
        about="the board loses its power for a moment: all its processes are killed",
        strike=lambda scene: scene.board.power_off(),
        heal=_power_on,
        is_on=_is_silent,
        stages=ANY_TIME,
        lasts=(1, 8),
    ),
    "reboot": Kind(
        target=Target.BOARD,
        about="the board reboots in order",
        strike=_reboot,
        heal=_power_on,
        is_on=_is_silent,
        stages=ANY_TIME,
        lasts=(5, 20),
    ),
    "sshd-killed": Kind(
        target=Target.BOARD,
        about="sshd is killed, with every session",
        strike=lambda scene: send(_sshds(scene), SIGKILL),
        heal=_start_sshd,
        is_on=_is_silent,
        stages=ANY_TIME,
    ),
    "sshd-stopped": Kind(
        target=Target.BOARD,
        about="sshd stands still, with every session",
        strike=_stop_sshd,
        heal=lambda scene: scene.board.is_on and send(_sshds(scene), SIGCONT),
        is_on=lambda scene: all_are(_sshds(scene), has_stopped) and _is_silent(scene),
        stages=ANY_TIME,
    ),
    "engine-disk-full": Kind(
        target=Target.BOARD,
        about="the engine's disk is full",
        strike=_fill_engine,
        heal=_empty_engine,
        is_on=was_full,
        stages=("before", "context", "running", "push"),
        lasts=(None,),
    ),
    "engine-inodes": Kind(
        target=Target.BOARD,
        about="the engine's disk has no inode left",
        strike=lambda scene: scene.board.run("python3 -", stdin=_TAKE_INODES),
        heal=_give_inodes,
        is_on=_no_room(_engine_disk),
        stages=("before", "context", "running", "push"),
        lasts=(None,),
    ),
    "engine-read-only": Kind(
        target=Target.BOARD,
        about="the engine's disk turns read-only",
        strike=_cover,
        heal=_uncover,
        is_on=_no_room(_engine_disk),
        stages=("before", "context", "running", "push"),
        lasts=(None,),
    ),
    # Since Linux 6.14 statvfs(2) does not tell: the file system is writable, and every write is an error.
    "engine-disk-error": Kind(
        target=Target.BOARD,
        about="the engine's file system has met an error, and writes no more",
        strike=lambda scene: scene.board.run("mount -o remount,abort /var/lib/docker"),
        heal=_power_cycle,
        is_on=_no_room(_engine_disk),
        stages=("context", "running", "push"),
        lasts=(None,),
    ),
    "state-disk-full": Kind(
        target=Target.BOARD,
        about="the disk with the agent's state is full",
        strike=_fill_state,
        heal=_empty_state,
        is_on=was_full,
        stages=("before", "context", "running", "push"),
        lasts=(None,),
    ),
}
