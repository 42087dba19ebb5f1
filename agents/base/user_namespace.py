"""A user namespace in which a program opens its user's files whatever their modes are.

The program is root there, and still its user, with its groups, to everybody else. Only entries whose user *and* group
are the ones of this login are opened: the kernel ignores modes where both have a meaning in the namespace
(user_namespaces(7)).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_TRIAL_TIMEOUT_S = 60.0


def entering() -> Callable[[], None]:
    """Return what moves a process into a new namespace, as a `preexec_fn`. It raises OSError in that process.

    A process with threads cannot enter one.
    """
    import ctypes  # an agent that has no use for it starts without

    libc = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        user, group = os.geteuid(), os.getegid()
        if libc.unshare(_CLONE_NEWUSER):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        # Without `deny` the kernel refuses the group map of an ordinary user (user_namespaces(7)).
        for name, text in (("uid_map", f"0 {user} 1"), ("setgroups", "deny"), ("gid_map", f"0 {group} 1")):
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, text.encode("ascii"))
            os.close(fd)

    return enter


def opens_closed(folder: Path) -> bool:
    """Try whether a program in the namespace opens a file of mode 0000 in a folder of mode 0000, made in `folder`.

    Versions and settings do not tell: namespaces can be off or restricted (AppArmor), a chroot has none, the disk may
    be another machine's, and new entries may get another group than the login's.
    """
    import tempfile  # as `ctypes`

    with tempfile.TemporaryDirectory(prefix=".closed", dir=folder) as made:
        below = Path(made, "folder")
        below.mkdir()
        (below / "file").touch(mode=0)
        below.chmod(0)
        enter = entering()

        def open_there() -> None:
            enter()
            os.close(os.open(below / "file", os.O_RDONLY | os.O_CLOEXEC))

        try:
            # An exception of preexec_fn is raised here as SubprocessError.
            subprocess.run(["/bin/sh", "-c", ":"], preexec_fn=open_there, timeout=_TRIAL_TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError):
            return False
        finally:
            below.chmod(0o700)
    return True
