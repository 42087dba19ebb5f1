"""Where the agent keeps what outlives it, and the ids of the machine and the boot it runs in."""

from __future__ import annotations

import os
import platform
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agents.base.errors import AgentError

FORMAT = "1"
# Where a home takes nothing, what outlives a reboot first; what is below them is checked.
_SPARES = (Path("/var/tmp"), Path("/tmp"), Path("/dev/shm"))  # noqa: S108
_ID = re.compile(r"[0-9a-f]{8,64}\Z")


def machine_id() -> str:
    """The machine's id; where the system has none (small images, containers), a name made from the host name."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if _ID.match(text):
            return text
    return "host-" + re.sub(r"[^A-Za-z0-9.-]", "-", platform.node())


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def open_state(environment: Mapping[str, str], spares: Sequence[Path] = _SPARES) -> Path:
    """The agent's folder, 0700, keyed by machine because a home may be shared by several machines.

    Below the home, or below a folder of this user's own in one of `spares` where it takes nothing. Raises AgentError
    `state` when it was written in another format.
    """
    try:
        folder = _make(_root(environment))
    except OSError:
        folder = _make(_own(spares))
    version = folder / "version"
    try:
        # "x" so that two agents that start at once do not write over each other.
        with version.open("x", encoding="ascii") as file:
            file.write(FORMAT)
    except FileExistsError:
        found = version.read_text(encoding="ascii").strip()
        # Empty: another agent is between creating and writing it.
        if found not in {FORMAT, ""}:
            raise AgentError("state", f"{folder} has format {found}, this agent reads {FORMAT}") from None
    return folder


def folders(environment: Mapping[str, str], spares: Sequence[Path] = _SPARES) -> tuple[Path, ...]:
    """Where `open_state` puts the folder of this machine: one of these, or over time several."""
    name = Path("archloom-agent", machine_id())
    own = (spare / f"archloom-{os.getuid()}" for spare in spares)
    return (_root(environment) / name, *(folder / name for folder in own if is_ours(folder)))


def is_ours(folder: Path) -> bool:
    """Whether we made this folder: in a place where everybody may write, nothing else may be believed."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _root(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_STATE_HOME", "")
    # The specification: a relative path in the variable is to be ignored.
    return Path(home) if home.startswith("/") else Path.home() / ".local" / "state"


def _make(root: Path) -> Path:
    folder = root / "archloom-agent" / machine_id()
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _own(spares: Sequence[Path]) -> Path:
    for spare in spares:
        folder = spare / f"archloom-{os.getuid()}"
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
        if is_ours(folder):
            return folder
    tried = ", ".join(map(str, spares))
    raise AgentError("state", f"neither the home nor a folder of our own in {tried} takes what the agent keeps")


def write_whole(path: Path, data: bytes) -> None:
    """The file with this content, or as it was before: never a part, also after a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
