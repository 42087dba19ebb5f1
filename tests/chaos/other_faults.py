"""Faults that no board has: of the registry, of the coordinator's process, of the disk with its store."""

from __future__ import annotations

import time
from signal import SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals

from tests.chaos.desk import Command
from tests.chaos.registry_proxy import TROUBLES
from tests.chaos.scene import Act, Kind, Scene, Target, waited, was_full

REGISTRY_STAGES = ("start", "context", "running", "push", "verify")
_FULL_NAME = "chaos-filler"


def _registry(name: str) -> Kind:
    trouble = TROUBLES[name]
    stages = REGISTRY_STAGES if name != "tag-lost" else ("start", "context")
    return Kind(
        target=Target.REGISTRY,
        about=f"the registry: {name}",
        strike=lambda scene: scene.lab.proxy.misbehave(trouble),
        heal=_behave,
        is_on=lambda scene: scene.lab.proxy.trouble is trouble,
        stages=stages,
        lasts=(3, 10, None) if name != "tag-lost" else (None,),
        exits=(6,),
    )


def _behave(scene: Scene) -> None:
    scene.kept["met"] = f"{scene.lab.proxy.bitten} requests met it"
    scene.lab.proxy.behave()


def _signal(number: Signals) -> Act:
    def strike(scene: Scene) -> None:
        scene.kept["at"] = time.monotonic()
        scene.running.send(number)

    return strike


def _signalled(number: Signals, about: str, *exits: int) -> Kind:
    return Kind(
        target=Target.COORDINATOR,
        about=about,
        strike=_signal(number),
        stages=("start", *REGISTRY_STAGES),
        lasts=(0,),
        exits=exits,
    )


def _freeze(scene: Scene) -> None:
    scene.kept["at"] = time.monotonic()
    scene.running.send(SIGSTOP)


def _thaw(scene: Scene) -> None:
    command, began = scene.kept.get("command"), scene.kept.get("at")
    if isinstance(command, Command) and isinstance(began, float):
        command.send(SIGCONT)
        command.frozen.append((began, time.monotonic()))


def _frozen(scene: Scene) -> bool:
    scene.kept["command"] = scene.running
    pid = scene.running.process.pid
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "T"


def _state(scene: Scene) -> str:
    return str(scene.desk.home.state)


def _fill_store(scene: Scene) -> None:
    disk = _state(scene)
    # Asked at once: the store itself frees what it no longer needs.
    told = scene.desk.shell(f"cat /dev/zero >{disk}/{_FULL_NAME} 2>/dev/null; df -B1 --output=avail {disk}")
    scene.kept["free"] = int(told.split()[-1])


def _empty_store(scene: Scene) -> None:
    scene.desk.shell(f"rm -f {_state(scene)}/{_FULL_NAME}")


def _store_is_shut(scene: Scene) -> bool:
    there = scene.desk.shell(f"echo x >{_state(scene)}/.chaos 2>/dev/null && cat {_state(scene)}/.chaos || true")
    return there.strip() != "x"


def _break_store(scene: Scene) -> None:
    """As an error on the disk does: a file system whose files are open cannot be remounted."""
    scene.desk.shell(f"mount -o remount,abort {_state(scene)}")


OTHER_FAULTS = {
    **{f"registry-{name}": _registry(name) for name in TROUBLES},
    "coordinator-killed": _signalled(SIGKILL, "the coordinator is killed", -SIGKILL),
    "coordinator-terminated": _signalled(SIGTERM, "the coordinator gets SIGTERM", 130),
    "coordinator-interrupted": _signalled(SIGINT, "the user presses Ctrl-C", 130),
    "coordinator-hung-up": _signalled(SIGHUP, "the terminal is closed"),
    "coordinator-stopped": Kind(
        target=Target.COORDINATOR,
        about="the coordinator stands still, and goes on",
        strike=_freeze,
        heal=_thaw,
        is_on=lambda scene: waited(lambda: _frozen(scene), 5),
        stages=REGISTRY_STAGES,
        lasts=(2, 8, 20),
    ),
    "store-full": Kind(
        target=Target.STORE,
        about="the store's disk is full",
        strike=_fill_store,
        heal=_empty_store,
        is_on=was_full,
        stages=("before", "context", "running", "push"),
        lasts=(None,),
    ),
    "store-read-only": Kind(
        target=Target.STORE,
        about="the store's disk turns read-only",
        strike=_break_store,
        heal=lambda scene: scene.desk.mount_again(),
        is_on=_store_is_shut,
        stages=("before", "context", "running", "push"),
        lasts=(None,),
    ),
}
