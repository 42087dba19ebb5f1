"""The agent's state folder, and the ids of the machine and of the boot."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agents.base import files, login
from agents.base.errors import AgentError

FORMAT = "1"
VERSION_FILE = "version"
# Parents of the state folder where the home is not writable; those that survive a reboot come first. They are writable
# by every user, so `is_ours` checks the folder below them.
_SPARES = (Path("/var/tmp"), Path("/tmp"), Path("/dev/shm"))  # noqa: S108
_ID = re.compile(r"[0-9a-f]{8,64}\Z")
_FORMATS = re.compile(rb"[0-9]{1,9}\s*\Z")
# The folders in the state folder.
_FOLDERS = ("jobs", "contexts", "objects")


def machine_id() -> str:
    """Return the machine id; where the system has none (small images, containers), `host-` and the host name."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if _ID.match(text):
            return text
    return "host-" + re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename)


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def open_state(environment: Mapping[str, str], spares: Sequence[Path] = _SPARES) -> Path:
    """Create or open the state folder of this machine, mode 0700. Several machines may share a home.

    It lies below the home, or, where the home is not writable, below this user's own folder in one of `spares`.
    Raises AgentError `state` where no place is writable, or where the folder has another format.
    """
    try:
        folder = _make(_root(environment))
    except OSError:
        folder = _make(_own(spares))
    version = folder / VERSION_FILE
    existing = files.read(version)
    if existing is None or not _FORMATS.match(existing):
        # Missing, or damaged: a power cut can leave a file without its content. What lies in the folder is checked when
        # it is read.
        files.write_whole(version, FORMAT.encode())
    elif existing.decode("ascii").strip() != FORMAT:
        raise AgentError("state", f"{folder} has format {existing.decode('ascii').strip()}, this agent reads {FORMAT}")
    return folder


def folders(environment: Mapping[str, str], spares: Sequence[Path] = _SPARES) -> tuple[Path, ...]:
    """Return every path where `open_state` may have put the folder of this machine; over time it may use several."""
    name = Path("archloom-agent", machine_id())
    own = (spare / f"archloom-{os.getuid()}" for spare in spares)
    return (_root(environment) / name, *(folder / name for folder in own if is_ours(folder)))


def is_ours(folder: Path) -> bool:
    """Whether this user owns the folder and no other user may write to it; no other folder in /tmp can be trusted."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _root(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_STATE_HOME", "")
    # XDG Base Directory Specification: relative paths in the variable are ignored.
    return Path(home) if home.startswith("/") else login.home() / ".local" / "state"


def _make(root: Path) -> Path:
    folder = root / "archloom-agent" / machine_id()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in _FOLDERS:
        files.make_folder(folder / name)
        if not os.access(folder / name, os.W_OK | os.X_OK):
            # Made by another user, as with sudo and the same home.
            raise PermissionError(f"{folder / name} cannot be written")
    return folder


def _own(spares: Sequence[Path]) -> Path:
    for spare in spares:
        folder = spare / f"archloom-{os.getuid()}"
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
        if is_ours(folder):
            return folder
    tried = ", ".join(map(str, spares))
    raise AgentError(
        "state", f"neither the home folder nor a folder of this user in {tried} can hold the agent's files"
    )
