"""Root file systems of Debian's suites, with their engines: what newer boards run on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.services.commands import run_limited
from tests.services.missing import missing
from tests.services.paths import ROOT


@cache
def rootfs(suite: str) -> Path:
    """The folder of this suite's, out of the cache that `scripts/test` fills; boards only read it."""
    answer = run_limited([ROOT / "scripts" / "fetch-rootfs", suite], capture_output=True, text=True, timeout=240)
    if answer.returncode:
        missing(f"there is no root file system of Debian {suite}: {answer.stderr.strip()}")
    return Path(answer.stdout.strip())
