"""The login user on this host."""

from __future__ import annotations

import os
import pwd


def user() -> str:
    """Return the effective user's name, whatever the environment says; the uid where the host has no name for it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
