"""What to do when a test's real part is not on this machine."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skips the test; where `CI=true` it fails, since a skip there would hide that nothing was proved."""
    reason = f"{what}; `scripts/test` brings it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str) -> str:
    """The absolute path of a program on PATH."""
    return shutil.which(name) or missing(f"there is no {name}")
