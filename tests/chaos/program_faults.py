"""Faults of programs on a host: the engine, containerd, the agent, its job; and an agent that lies."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

from tests.chaos.board_faults import ANY_TIME
from tests.chaos.processes import Process, all_are, has_stopped, lives, programs, send, serves, with_children
from tests.chaos.scene import Act, Kind, Scene, Target, waited
from tests.services.paths import ROOT

_LIAR = "/usr/local/lib/chaos-liar.py"
_WRAPPER = "/usr/local/bin/python3"
_CACHE = ".cache/archloom/archloom-agent-*"
_START_ENGINE = "rm -f /run/docker.pid; setsid dockerd >>/var/log/dockerd.log 2>&1 </dev/null &"
_START_CONTAINERD = "setsid containerd >>/var/log/containerd.log 2>&1 </dev/null &"
Found = Callable[[Scene], list[Process]]


def _engine(scene: Scene) -> list[Process]:
    return programs(scene.processes(), "dockerd")


def _containerd(scene: Scene) -> list[Process]:
    return programs(scene.processes(), "containerd")


def _serves(scene: Scene) -> list[Process]:
    return serves(scene.processes(), scene.jobs())


def _jobs(scene: Scene) -> list[Process]:
    """With what they have started, as the process group is killed by the kernel's OOM killer or stopped by hand."""
    return with_children(scene.jobs(), scene.processes())


def _clients(scene: Scene) -> list[Process]:
    return [one for one in _jobs(scene) if not one.is_agent]


def _struck(found: Found, number: int) -> Act:
    def strike(scene: Scene) -> None:
        waited(lambda: bool(found(scene)))
        struck = found(scene)
        scene.kept["struck"] = struck
        send(struck, number)  # type: ignore[arg-type]

    return strike


def _are_gone(scene: Scene) -> bool:
    struck: list[Process] = scene.kept["struck"]  # type: ignore[assignment]
    return waited(lambda: all_are(struck, lambda one: not lives(one)), 5)


def _have_stopped(scene: Scene) -> bool:
    struck: list[Process] = scene.kept["struck"]  # type: ignore[assignment]
    # One that ends of itself meanwhile is no matter.
    return waited(lambda: any(map(has_stopped, struck)), 5)


def _continued(scene: Scene) -> None:
    send(scene.kept.get("struck", []), SIGCONT)  # type: ignore[arg-type]


def _killed(found: Found, about: str, heal: Act, **more: object) -> Kind:
    return Kind(
        **{"target": Target.BOARD, "about": about, "strike": _struck(found, SIGKILL), "heal": heal, "is_on": _are_gone}
        | more  # type: ignore[arg-type]
    )


def _stopped(found: Found, about: str, **more: object) -> Kind:
    return Kind(
        **{
            "target": Target.BOARD,
            "about": about,
            "strike": _struck(found, SIGSTOP),
            "heal": _continued,
            "is_on": _have_stopped,
        }
        | more  # type: ignore[arg-type]
    )


def _start_engine(scene: Scene) -> None:
    """As systemd does, after a while."""
    if scene.board.is_on and not _engine(scene):
        scene.board.run(_START_ENGINE)
        waited(scene.board._has_engine, 30)


def _start_containerd(scene: Scene) -> None:
    if scene.board.is_on and scene.board.spec.containerd and not _containerd(scene):
        scene.board.run(_START_CONTAINERD)
    _start_engine(scene)


def _restart_engine(scene: Scene) -> None:
    _struck(_engine, SIGTERM)(scene)
    waited(lambda: not _engine(scene), 20)


def _lie(operation: str, what: str) -> Kind:
    def strike(scene: Scene) -> None:
        words = f'case "$*" in *" serve") exec /usr/bin/python3 {_LIAR} {operation} {what} "$@";; esac'
        scene.board.run(f"cat >{_LIAR}", stdin=(ROOT / "tests/chaos/liar.py").read_text())
        scene.board.run(f"cat >{_WRAPPER}", stdin=f'#!/bin/sh\n{words}\nexec /usr/bin/python3 "$@"\n')
        scene.board.run(f"chmod 755 {_WRAPPER}")

    def heal(scene: Scene) -> None:
        if scene.board.is_on:
            scene.board.run(f"rm -f {_WRAPPER} {_LIAR}")
            send([one for one in scene.processes() if _LIAR in one.command], SIGKILL)

    return Kind(
        target=Target.BOARD,
        about=f"the board's python answers {operation} with {what}",
        strike=strike,
        heal=heal,
        is_on=lambda scene: _LIAR in scene.board.run(f"cat {_WRAPPER}"),
        stages=("before",),
        lasts=(None,),
    )


def _damage(scene: Scene) -> None:
    """One byte in the middle of the agent's file, whose size stays what it was."""
    for file in scene.board.home.glob(_CACHE):
        if file.suffix == ".pyz":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 0xFF
            file.write_bytes(data)
            scene.kept["damaged"] = True
        else:
            file.unlink()


def _spoil_slot(scene: Scene) -> None:
    """A link where another user's lock file would be."""
    number = scene.board.docker("info", "--format", "{{.ID}}").strip().replace(":", "-")
    folder = f"/run/lock/archloom-{number}"
    scene.board.run(f"mkdir -p {folder}; chmod 1777 {folder}; ln -sf /etc/hostname {folder}/slot-0")


def _mend_slot(scene: Scene) -> None:
    if scene.board.is_on:
        scene.board.run("find /run/lock -name 'slot-*' -type l -delete")


PROGRAM_FAULTS = {
    "engine-killed": _killed(_engine, "dockerd is killed, and started again later", _start_engine, stages=ANY_TIME),
    "engine-stopped": _stopped(_engine, "dockerd stands still", stages=ANY_TIME),
    "engine-restarted": Kind(
        target=Target.BOARD,
        about="dockerd is restarted",
        strike=_restart_engine,
        heal=_start_engine,
        is_on=lambda scene: not scene.board._has_engine(),
        stages=ANY_TIME,
        lasts=(0, 3),
    ),
    "containerd-killed": _killed(
        _containerd, "containerd is killed, and started again later", _start_containerd, stages=ANY_TIME
    ),
    "serve-killed": _killed(_serves, "the agent is killed", lambda _: None, target=Target.HOST, lasts=(0,)),
    "serve-stopped": _stopped(_serves, "the agent stands still", target=Target.HOST),
    "job-killed": _killed(
        _jobs, "the job is killed", lambda _: None, target=Target.HOST, stages=("running",), lasts=(0,)
    ),
    "job-stopped": _stopped(_jobs, "the job stands still", target=Target.HOST, stages=("running",)),
    "client-killed": _killed(
        _clients, "the engine's program is killed", lambda _: None, target=Target.HOST, stages=("running",), lasts=(0,)
    ),
    "lie-deep": _lie("start", "deep"),
    "lie-surrogate": _lie("probe", "surrogate"),
    "lie-types": _lie("create", "types"),
    "lie-bytes": _lie("follow", "bytes"),
    "lie-code": _lie("start", "code"),
    "lie-nothing": _lie("push", "nothing"),
    "lie-endless": _lie("lacking", "endless"),
    "agent-file-damaged": Kind(
        target=Target.BOARD,
        about="a byte of the agent's file is another",
        strike=_damage,
        is_on=lambda scene: "damaged" in scene.kept,
        stages=("before",),
        lasts=(None,),
    ),
    "slot-spoilt": Kind(
        target=Target.BOARD,
        about="the lock file of the slot is a link of somebody else",
        strike=_spoil_slot,
        heal=_mend_slot,
        is_on=lambda scene: "->" in scene.board.run("ls -l /run/lock/archloom-*/"),
        stages=("before",),
        lasts=(None,),
    ),
}
