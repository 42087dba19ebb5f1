"""A board's login that is not root: modes keep it from its own files and folders."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.services.missing import missing

NOBODY = 65534
_LIBC = ctypes.CDLL(None)
_PR_SET_DUMPABLE = 4


@contextmanager
def ordinary_login() -> Iterator[None]:
    """This process without root's right to open everything."""
    if os.geteuid():
        missing("root is needed, to be somebody else for a while")
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    # A process that has changed its user may not write its own /proc, which a login's process may: proc(5).
    _LIBC.prctl(_PR_SET_DUMPABLE, 1)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        _LIBC.prctl(_PR_SET_DUMPABLE, 1)


@contextmanager
def home_of_nobody() -> Iterator[Path]:
    """A folder of nobody's: pytest's own are root's alone."""
    with TemporaryDirectory() as made:
        os.chown(made, NOBODY, NOBODY)
        yield Path(made)
