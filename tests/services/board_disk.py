"""A board's disk: the folder that holds what the board changes, and what `board_init.sh` makes a machine of.

`upper` is what it has over this machine's files; `disk/` its homes and the engine's data; `home` what its user's home
has from the beginning.
"""

from __future__ import annotations

import json
import os
import platform
import uuid
from contextlib import suppress
from pathlib import Path

from tests.services.board_lab import run
from tests.services.board_spec import BoardSpec
from tests.services.missing import missing
from tests.services.rootfs import rootfs

_HOST_KEY = "etc/ssh/board_key"
_SKEW = "usr/lib/libboardclock.so"
_DATA = {
    "/root": "root",
    "/home": "home",
    "/var/lib/docker": "var-lib-docker",
    "/var/lib/containerd": "var-lib-containerd",
    "/var/tmp": "var-tmp",
}
# Where each shell looks when it runs a command for sshd. dash looks nowhere, but sshd runs this one for every shell.
_STARTED = {"bash": ".bashrc", "fish": ".config/fish/config.fish", "tcsh": ".cshrc", "dash": ".ssh/rc"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SSHD_PID = "/run/board-sshd.pid"
# Those who are logged in have a process of their own.
RESTART = f"""
sshd=$(cat {SSHD_PID})
kill "$sshd"
while kill -0 "$sshd" 2>/dev/null; do :; done
rm -f {SSHD_PID}
/usr/sbin/sshd -E /var/log/sshd.log
"""
_CGROUPS = Path("/sys/fs/cgroup")


def make(folder: Path, spec: BoardSpec, name: str, machine_id: str, key: Path) -> None:
    """A disk in a new folder. `name` is the board's for the kernel, which is this machine's."""
    data = (f"disk/{one}" for one in _DATA.values())
    for path in ("upper/etc/docker", "upper/etc/ssh", "work", "root", "home/.ssh", *data):
        (folder / path).mkdir(parents=True)
    (folder / "disk/var-tmp").chmod(0o1777)
    (folder / "home/.ssh").chmod(0o700)
    upper = folder / "upper/etc"
    # Nothing of this machine's own engine shows through, such as its id.
    os.setxattr(upper / "docker", "trusted.overlay.opaque", b"y")
    (upper / "hostname").write_text(f"{spec.name}\n")
    (upper / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {spec.name}\n")
    (upper / "machine-id").write_text(f"{machine_id}\n")
    (upper / "ssh/sshd_config").write_text("".join(f"{line}\n" for line in _sshd(spec)))
    (upper / "docker/daemon.json").write_text(json.dumps(_engine(spec, name)))
    if spec.authorized:
        (folder / "home/.ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())
    if spec.clock:
        (folder / "upper/usr/lib").mkdir(parents=True)
        (folder / "upper" / _SKEW).write_bytes(_skew_library())
    if spec.motd:
        started = folder / "home" / _STARTED[spec.shell]
        started.parent.mkdir(parents=True, exist_ok=True)
        started.write_text(f"printf '%s' '{spec.motd}'\n")
    for place, size in spec.disks:
        image = _image(folder, place)
        with image.open("wb") as file:
            file.truncate(size << 20)
        run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image))
    new_host_key(upper.parent)


def _engine(spec: BoardSpec, name: str) -> dict[str, object]:
    """Its engine's configuration."""
    settings: dict[str, object] = {"exec-opts": ["native.cgroupdriver=cgroupfs"], "cgroup-parent": f"/{name}"}
    if spec.store == "containerd":
        # Its snapshotter is overlayfs, whatever else the engine would choose.
        return {**settings, "features": {"containerd-snapshotter": True}}
    return {**settings, "storage-driver": spec.store}


def environment(folder: Path, spec: BoardSpec) -> dict[str, str]:
    """What `board_init.sh` is told."""
    return {
        "PATH": PATH,
        "BOARD": str(folder),
        "BOARD_SYSTEM": str(rootfs(spec.system)) if spec.system else "/",
        "BOARD_USER": spec.user,
        "BOARD_HOME": spec.home,
        "BOARD_GROUPS": ",".join(spec.groups),
        "BOARD_SHELL": spec.shell,
        "BOARD_PASSWORD": spec.password,
        "BOARD_ENGINE": "yes" if spec.engine else "",
        "BOARD_CONTAINERD": "yes" if spec.containerd else "",
        "BOARD_ENGINE_ENVIRONMENT": " ".join(f"{name}={value}" for name, value in spec.engine_environment),
        "BOARD_HIDDEN": " ".join(spec.hidden),
        "BOARD_MOUNTS": " ".join(f"{place}={options}" for place, options in spec.mounts),
        "BOARD_DISKS": " ".join(f"{place}={_image(folder, place)}" for place, _ in spec.disks),
    }


def new_boot_id(folder: Path) -> None:
    (folder / "boot-id").write_text(f"{uuid.uuid4()}\n")


def new_host_key(root: Path) -> None:
    """Below the root of the board's files."""
    key = root / _HOST_KEY
    for file in (key, root / f"{_HOST_KEY}.pub"):
        file.unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key))


def public_key_file(folder: Path) -> Path:
    return folder / "upper" / f"{_HOST_KEY}.pub"


def host_key(folder: Path) -> str:
    return " ".join(public_key_file(folder).read_text().split()[:2])


def outside(folder: Path, path: str) -> Path:
    """Where a home of the board, or what is below it, is on this machine."""
    for place, name in _DATA.items():
        if Path(path).is_relative_to(place):
            return folder / "disk" / name / Path(path).relative_to(place)
    raise AssertionError(f"{path} is not on a plain folder")


def log(folder: Path) -> str:
    files = [folder / "init.log", *(folder / f"upper/var/log/{name}.log" for name in ("sshd", "dockerd"))]
    return "\n".join(file.read_text("utf-8", "replace") for file in files if file.exists())


def is_released(folder: Path, spec: BoardSpec) -> bool:
    """Nothing has the board's disks mounted: the next boot may."""
    return not any(run("losetup", "--associated", str(_image(folder, place))) for place, _ in spec.disks)


def sweep_cgroups(name: str) -> None:
    """What containers that were killed left in the kernel's tree of groups."""
    for found in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")):
        for path, _, _ in os.walk(found, topdown=False):
            with suppress(OSError):
                Path(path).rmdir()


def _image(folder: Path, place: str) -> Path:
    return folder / f"disk{place.replace('/', '-')}.img"


def _sshd(spec: BoardSpec) -> list[str]:
    """The first line of a kind counts."""
    return [
        *spec.sshd,
        f"HostKey /{_HOST_KEY}",
        f"PidFile {SSHD_PID}",
        "UsePAM no",
        "PermitRootLogin yes",
        "LogLevel VERBOSE",
        f"PasswordAuthentication {'yes' if spec.password else 'no'}",
        *(["Subsystem sftp internal-sftp"] if spec.sftp else []),
        *([f"SetEnv {_skewed(spec.clock)}"] if spec.clock else []),
    ]


def _skew_library() -> bytes:
    """libfaketime, but for a function that it gets wrong: a sleep by the monotonic clock, which is Python's, fails."""
    library = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1")
    if not library.exists():
        missing(f"there is no {library}")
    return library.read_bytes().replace(b"\0clock_nanosleep\0", b"\0clock_nanosleeX\0")


def _skewed(seconds: int) -> str:
    return f"LD_PRELOAD=/{_SKEW} FAKETIME={seconds:+d} FAKETIME_DONT_FAKE_MONOTONIC=1"
