"""Who we are on this host."""

from __future__ import annotations

import os
import pwd


def user() -> str:
    """The name of the user we run as, whatever the environment says; their number where the host has no name for it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
