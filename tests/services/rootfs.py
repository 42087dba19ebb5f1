"""Root file systems of Debian's suites, with their engines: what newer boards run on."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.services.missing import ROOT, missing


@cache
def rootfs(suite: str) -> Path:
    """The folder of this one's, which nobody writes to; from the cache that `scripts/test` fills."""
    answer = subprocess.run([ROOT / "scripts" / "fetch-rootfs", suite], capture_output=True, text=True, check=False)
    if answer.returncode:
        missing(f"there is no root file system of Debian {suite}: {answer.stderr.strip()}")
    return Path(answer.stdout.strip())
