"""The command as a user runs it: a process of its own, with a home of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.services.commands import Child, next_line, run_limited
from tests.services.paths import ROOT

T = TypeVar("T")
# What a build's `echo begun` prints, which the line of its step is not.
BEGUN = r"\d begun"
# What a build takes on a busy machine, emulated ones included.
PATIENCE = 120.0
COMMAND = str(Path(sys.executable).with_name("archloom"))


@dataclass(frozen=True, slots=True)
class Home:
    """A user's folders. `environment` is what the command sees; nothing of the real user's is in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "DOCKER_CONFIG": str(self.folder / ".docker"),
            "LANG": "C.UTF-8",
        }

    @property
    def state(self) -> Path:
        return self.folder / ".local" / "state" / "archloom"

    def run(
        self, *words: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        return run_limited(
            [COMMAND, *words],
            cwd=cwd or self.folder,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def imported(self, *words: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The modules that the command imports until its end, which is a good one, with the lines it prints between."""
        done = run_limited(
            [sys.executable, "-X", "importtime", "-m", "coordinator", *words],
            cwd=ROOT,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return [line.rpartition("|")[2].strip() for line in good(done).stderr.splitlines()]

    def start(self, *words: str) -> Child:
        """The command, under way, in a process group of its own as a terminal would have it."""
        return Child(
            [COMMAND, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def good(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def follow(process: Child, *patterns: str) -> str:
    """What the command says, until each of the patterns was found in a line. Fails where it ends before."""
    assert process.stderr is not None
    missing, seen = list(patterns), ""
    with process.within(PATIENCE):
        while line := next_line(process.stderr.fileno()).decode("utf-8", "replace"):
            seen += line
            missing = [pattern for pattern in missing if not re.search(pattern, line)]
            if not missing:
                return seen
    raise AssertionError(f"{missing} never came:\n{seen}")


def eventually(found: Callable[[], T], seconds: float = 60.0) -> T:
    """What `found` returns once it is true. Fails when it does not come to be."""
    until = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.05)
    return result


def context(folder: Path, dockerfile: str, files: Mapping[str, str | bytes] | None = None) -> Path:
    """A folder to build."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, content in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
