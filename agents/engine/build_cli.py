"""A build by a program: buildx, or docker before 23 with BuildKit. The image goes into the engine's own store."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from agents.base.errors import AgentError
from agents.job.logs import tail
from agents.job.spec import Spec
from agents.job.store import CONTEXT

DOCKERFILE = "Dockerfile"
_CONFIG = "docker"


class CliBuild:
    """One run of `program`. What it prints goes to the log; it ends with this process, and when it is cancelled."""

    def __init__(self, spec: Spec, folder: Path, log: BinaryIO, program: str, environ: Mapping[str, str]) -> None:
        self._spec = spec
        self._folder = folder
        self._log = log
        self._program = program
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False
        self._lock = threading.Lock()

    def run(self) -> str:
        """Empty when the image was built, else what the program says went wrong. Raises AgentError `engine`."""
        prepare_folder(self._spec, self._folder)
        with self._lock:
            if self._cancelled:
                return "cancelled"
            try:
                self._process = subprocess.Popen(
                    [self._program, *arguments(self._spec, self._folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    env=self._environ,
                    cwd=self._folder,
                )
            except OSError as error:
                raise AgentError("engine", f"{self._program} cannot be run: {error.strerror}") from error
        status = self._process.wait()
        if status < 0:
            raise AgentError("engine", f"{self._program} was killed by signal {-status}")
        return complaint(tail(self._folder)) or f"{self._program} ended with status {status}" if status else ""

    def cancel(self) -> None:
        """Kill it: the engine ends the steps of a build whose client is gone, and a client that is asked may linger."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()


def arguments(spec: Spec, folder: Path) -> list[str]:
    """What comes after the program's name."""
    words = ["build", "--progress", "plain", "--platform", spec.platform, "--tag", spec.image]
    if spec.engine == "buildx":
        # The user's own default may be a builder in a container, which cannot see the engine's images.
        words += ["--builder", "default", "--load"]
    if spec.stage:
        words += ["--target", spec.stage]
    if spec.no_cache:
        words.append("--no-cache")
    for name, value in spec.build_args.items():
        words += ["--build-arg", f"{name}={value}"]
    for name, value in spec.labels.items():
        words += ["--label", f"{name}={value}"]
    return [*words, "--file", str(folder / DOCKERFILE), str(folder / CONTEXT)]


def environment(folder: Path, socket: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The program's environment: nothing of the user's configuration, credentials or chosen builder is in it."""
    return {
        "PATH": environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": str(folder),
        "DOCKER_HOST": f"unix://{socket}",
        "DOCKER_CONFIG": str(folder / _CONFIG),
        "DOCKER_BUILDKIT": "1",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }


def prepare_folder(spec: Spec, folder: Path) -> None:
    """Write what the program reads beside the context."""
    (folder / _CONFIG).mkdir(mode=0o700, exist_ok=True)
    (folder / DOCKERFILE).write_text(spec.dockerfile, encoding="utf-8")
    # An ignore file of the Dockerfile's own stands in for the context's, which was applied before it was sent:
    # applied again it could only take away what was meant to be there. Empty ones are overlooked.
    (folder / f"{DOCKERFILE}.dockerignore").write_text("# the context is as it was sent\n", encoding="utf-8")


def complaint(log: str) -> str:
    """The line a failed program ends with, or the last one it marks as its error."""
    lines = [line.strip() for line in log.splitlines() if line.strip().strip("-")]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return errors[-1] if errors else lines[-1] if lines else ""
