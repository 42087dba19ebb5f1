"""Static binaries of foreign platforms, by the script the demo uses."""

from __future__ import annotations

from pathlib import Path

from tests.services.commands import run_limited
from tests.services.missing import missing
from tests.services.paths import ROOT


def busybox(platform: str) -> Path:
    """Debian's static busybox for linux/amd64, arm64, arm/v7 or arm/v6; from the cache `scripts/test` fills."""
    answer = run_limited([ROOT / "scripts" / "fetch-busybox", platform], capture_output=True, text=True, timeout=240)
    if answer.returncode:
        missing(f"there is no busybox for {platform}: {answer.stderr.strip()}")
    return Path(answer.stdout.strip())
