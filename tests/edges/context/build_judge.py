"""The real `docker build` of this machine, asked what it makes of a Dockerfile and an ignore file."""

from __future__ import annotations

import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.commands import run_limited
from tests.services.missing import missing
from tests.services.paths import ROOT

_NO_REASON = "context canceled"
_MOST_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A command line that builds through BuildKit, and the version of Docker whose rules it has."""

    command: tuple[str, ...]
    environment: dict[str, str]
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What the image holds, folders with `/` at their end; or why there is none."""

    files: tuple[str, ...] = ()
    error: str = ""


def buildx(folder: Path) -> Client:
    """Debian's buildx on this machine's engine; `folder` is for its configuration."""
    fetched = run_limited([ROOT / "scripts" / "fetch-buildx"], capture_output=True, text=True, timeout=240)
    if fetched.returncode:
        missing(f"there is no buildx: {fetched.stderr.strip()}")
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(fetched.stdout.strip())
    command = (_dockers()[0], "buildx", "build", "--builder", "default")
    return Client(command=command, environment={"DOCKER_CONFIG": str(plugins.parent)}, version=23)


def before_buildx() -> Client:
    """A client of the time when `docker build` itself spoke to BuildKit: Debian's and Ubuntu's 20.10."""
    older = next((docker for docker in _dockers() if _version(docker) < 23), None)
    if older is None:
        pytest.skip("every docker command line here is 23 or newer")
    return Client(command=(older, "build"), environment={"DOCKER_BUILDKIT": "1"}, version=20)


def build(client: Client, folder: Path, context: Path, dockerfile: str, ignore: str = "") -> Built:
    """Builds in `folder`, which holds the Dockerfile and the ignore file; nothing is left in the engine but cache."""
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8", newline="")
    # An empty file counts as none, and the context's own would then be read.
    (folder / "Dockerfile.dockerignore").write_text(ignore or "#", encoding="utf-8", newline="")
    output = folder / "out.tar"
    arguments = ("--quiet", "--file", folder / "Dockerfile", "--output", f"type=tar,dest={output}", context)
    done = _run(client, *arguments)
    for _ in range(_MOST_TRIES):
        # Two sides of the client find a bad ignore file at once; this word is from the one that knows no reason.
        if _NO_REASON not in done.stderr:
            break
        done = _run(client, *arguments)
    if done.returncode:
        return Built(error=done.stderr)
    with tarfile.open(output, encoding="utf-8", errors="surrogateescape") as archive:
        names = [member.name.rstrip("/") + ("/" if member.isdir() else "") for member in archive]
    return Built(files=tuple(sorted(names)))


def _run(client: Client, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_limited(
        [*client.command, *arguments],
        env={**os.environ, **client.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _dockers() -> list[str]:
    places = (Path(folder, "docker") for folder in os.environ["PATH"].split(os.pathsep))
    return [str(path) for path in places if os.access(path, os.X_OK)] or missing("there is no docker")


def _version(docker: str) -> int:
    words = run_limited([docker, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return int(words[2].split(".")[0])
