"""Debian sid's root file system, with today's engine: what newer boards run on."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.services.missing import ROOT, missing


@cache
def rootfs() -> Path:
    """Its folder, which nobody writes to; from the cache that `scripts/test` fills."""
    answer = subprocess.run([ROOT / "scripts" / "fetch-rootfs"], capture_output=True, text=True, check=False)
    if answer.returncode:
        missing(f"there is no root file system of Debian sid: {answer.stderr.strip()}")
    return Path(answer.stdout.strip())
