"""The problems that a probe finds on a host, each with a hint for the host's owner."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.full_disk import room_hint, too_little_space
from coordinator.domain.hosts.probe_reply import Reading

GIB = 1024**3
ROOTLESS = "rootless"
# In bytes: what firmware, GPU and kernel leave of 1 GiB. A 512 MiB board has far less.
SMALL_MEMORY = 800 * 1024**2
# The host is the same machine as another host of the inventory: see `domain.placement.duplicate_hosts`.
SAME_MACHINE = "same_machine"
# Where a board has the lock files of slots that all its users share.
_LOCKS = "/run/lock"
_FULL_DISK_BYTES = 100 * 1024**2
_CLOCK_WARNING_S, _CLOCK_BLOCKING_S = 60.0, 300.0
# Bits of the Raspberry Pi firmware's `get_throttled`.
_UNDER_VOLTAGE_NOW, _THROTTLED_NOW = 1 << 0, 1 << 2
_UNDER_VOLTAGE_SINCE_BOOT = 1 << 16
# The API version of Docker 18.09, the first engine with BuildKit outside its experimental mode.
_BUILDKIT_API = (1, 39)
_MAX_DIGITS = 9


class Severity(StrEnum):
    """How serious a problem is. `blocking`: the host can build nothing until it is fixed."""

    NOTE = "note"
    WARNING = "warning"
    BLOCKING = "blocking"


@dataclass(frozen=True, slots=True)
class Problem:
    """`code` is a short stable word, `message` does not contain the host's name, `hint` is the remedy."""

    code: str
    message: str
    hint: str
    severity: Severity


def of_engine(observation: Reading) -> list[Problem]:
    """Return why the engine cannot build, and the restrictions of a rootless engine."""
    engine = observation.at("engine")
    error = engine.at("error")
    if error.value is not None or not engine.text("arch"):
        return [_unanswered(error.text("code") or "absent", error.text("message"))]
    if engine.text("kind") == "podman":
        message = "the engine is podman, which archloom cannot use yet"
        return [Problem("podman", message, "install Docker: sudo apt install docker.io", Severity.BLOCKING)]
    if engine.text("os") not in {"", "linux"}:
        message = f"the engine runs {engine.text('os')} containers, expected linux"
        return [Problem("engine_os", message, "switch it to Linux containers", Severity.BLOCKING)]
    if not has_buildkit(engine):
        message = f"engine {engine.text('version')} has no BuildKit; 18.09 is the first version with it"
        return [Problem("engine_old", message, "sudo apt install docker.io", Severity.BLOCKING)]
    if engine.flag("rootless"):
        message = "the engine is rootless, in its own network: images are sent as archives, which takes longer"
        hint = "to push instead, let this user use the system's engine: sudo usermod -aG docker USER"
        return [Problem(ROOTLESS, message, hint, Severity.NOTE), *_of_linger(observation)]
    return []


def has_buildkit(engine: Reading) -> bool:
    """Return whether the engine builds with BuildKit (`POST /build?version=2`)."""
    return engine.text("kind") in {"", "docker"} and version(engine.text("api")) >= _BUILDKIT_API


def version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `20.10.24+dfsg1` is (20, 10, 24)."""
    numbers: list[int] = []
    for word in text.split("."):
        digits = word[: next((at for at, letter in enumerate(word) if not letter.isdecimal()), len(word))]
        if not digits or len(digits) > _MAX_DIGITS:
            break
        numbers.append(int(digits))
        if digits != word:
            break
    return tuple(numbers)


def of_clock(offset: float | None, uncertainty: float) -> list[Problem]:
    """Return the clock's problem. `offset` is the host's clock minus the coordinator's, in seconds ± `uncertainty`."""
    if offset is None or abs(offset) - uncertainty <= _CLOCK_WARNING_S:
        return []
    blocking = abs(offset) - uncertainty > _CLOCK_BLOCKING_S
    side = "ahead of" if offset > 0 else "behind"
    message = f"its clock is {_duration(abs(offset))} {side} ours, so certificates and package lists look invalid to it"
    hint = "sudo timedatectl set-ntp true, and wait until timedatectl says it is synchronized"
    return [Problem("clock", message, hint, Severity.BLOCKING if blocking else Severity.WARNING)]


def of_machine(observation: Reading, *, is_local: bool) -> list[Problem]:
    """Return the problems of memory, disk, power supply and slots. `is_local`: it is the coordinator's own machine."""
    problems: list[Problem] = []
    total = observation.at("memory").whole("total")
    if 0 < total < SMALL_MEMORY:
        message = f"{total // 1024**2} MiB of memory: too little for most builds"
        hint = "name it with --on, or write use: [build], to build here anyway"
        problems.append(Problem("memory", message, hint, Severity.WARNING))
    if observation.flag("memory_cgroup") is False:
        message = "the kernel cannot limit memory: a build that uses too much of it can crash the host"
        hint = "on a Raspberry Pi: add cgroup_enable=memory to /boot/firmware/cmdline.txt, then reboot"
        problems.append(Problem("memory_cgroup", message, hint, Severity.NOTE))
    problems += _of_disk(observation, is_local=is_local)
    problems += _of_power(observation.whole("throttled"))
    problems += _of_slots(observation)
    return problems


def _of_slots(observation: Reading) -> list[Problem]:
    if observation.flag("shared_slots") is not False:
        return []
    unseen = "builds of other users on this host are not seen, and may run at the same time"
    path = observation.text("spoilt_slots") or _LOCKS
    if path == _LOCKS:
        return [Problem("slots", f"{path} is not writable: {unseen}", f"sudo chmod 1777 {path}", Severity.NOTE)]
    message = f"{path} is no lock file that this login user can use, another user may have made it: {unseen}"
    return [Problem("slots", message, f"sudo rm -r {shlex.quote(path)}", Severity.WARNING)]


def _of_linger(observation: Reading) -> list[Problem]:
    if observation.flag("linger") is not False:
        return []
    message = "the rootless engine stops at the last logout"
    return [Problem("linger", message, "sudo loginctl enable-linger USER", Severity.WARNING)]


def disks(observation: Reading) -> list[Reading]:
    """Return `root`, `free` and `total` of each folder the engine writes to: its own, and containerd's for images."""
    engine = observation.at("engine")
    return [part for part in (engine, engine.at("images")) if part.text("root") and part.number("free") is not None]


def _of_disk(observation: Reading, *, is_local: bool) -> list[Problem]:
    # An observation that an older agent made does not name it.
    state = observation.text("state_root")
    state_hint = room_hint(state, " there") if state else "make room there, on the disk with the login user's home"
    if is_local:
        state_hint += "; or set XDG_STATE_HOME to a folder on a larger disk"
    places = [
        *(
            (disk.text("root"), disk.number("free"), "docker system df shows what uses it")
            for disk in disks(observation)
        ),
        (state or "the agent's folder", observation.number("state_free"), state_hint),
    ]
    for place, free, hint in places:
        if free is not None and free < _FULL_DISK_BYTES:
            needed = _FULL_DISK_BYTES // 1024**2
            message = f"{too_little_space(place, free)}, a build needs {needed} or more"
            return [Problem("disk", message, hint, Severity.BLOCKING)]
    return []


def _of_power(throttled: int) -> list[Problem]:
    hint = "use the power supply made for this board, and cool it"
    if throttled & (_UNDER_VOLTAGE_NOW | _THROTTLED_NOW):
        state = "its voltage is too low" if throttled & _UNDER_VOLTAGE_NOW else "it is too hot"
        return [Problem("throttled", f"{state}, so it runs slowly now", hint, Severity.WARNING)]
    if throttled & _UNDER_VOLTAGE_SINCE_BOOT:
        return [Problem("throttled", "its voltage has been too low at times since it started", hint, Severity.NOTE)]
    return []


def _unanswered(code: str, message: str) -> Problem:
    hints = {
        "absent": "sudo apt install docker.io",
        "denied": "sudo usermod -aG docker USER there, then log out and in again",
        "down": "sudo systemctl start docker, or on a machine without systemd: sudo service docker start",
    }
    hint = hints.get(code, "run docker version on that host for details")
    return Problem(f"engine_{code}", message or "there is no container engine", hint, Severity.BLOCKING)


def _duration(seconds: float) -> str:
    for unit, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
