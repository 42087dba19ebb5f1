"""The login user on this host."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def user() -> str:
    """Return the effective user's name, whatever the environment says; the uid where the host has no name for it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def home() -> Path:
    """Return the user's home folder; `/` where neither HOME nor the host names one."""
    path = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises RuntimeError without one
    return Path(path if path.startswith("/") else "/")
