"""Independent clients that say what is in a registry: `docker pull --platform` and skopeo."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.commands import run_limited
from tests.services.missing import program


@contextmanager
def pulled(reference: str, platform: str, *, login: Path | None = None) -> Iterator[dict[str, Any]]:
    """`docker image inspect` of what the engine pulls for the platform; the image is removed again.

    `login` is a folder made by `docker_login`. Raises CalledProcessError, with the engine's words in `stderr`.
    """
    docker(*_config(login), "pull", "--quiet", "--platform", platform, reference)
    try:
        yield json.loads(docker("image", "inspect", reference))[0]
    finally:
        docker("rmi", reference)


def ran(reference: str, platform: str, *command: str) -> str:
    """What a container of an image that the engine has prints; an `init` so that a crashed emulator ends it."""
    return docker("run", "--rm", "--init", "--platform", platform, reference, *command)


def docker(*arguments: str) -> str:
    """The standard output of a docker command. Raises CalledProcessError."""
    return _output(program("docker"), *arguments)


def docker_login(folder: Path, registry: str, user: str, password: str) -> Path:
    """Writes a client configuration that knows one password, as `docker login` does; the folder for `--config`."""
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry: {"auth": auth}}}), "utf-8")
    return folder


def skopeo_inspect(reference: str, platform: str = "linux/amd64", *, credentials: str = "") -> dict[str, Any]:
    """What skopeo resolves a tag to for a platform: `Digest`, `Architecture`, `Os`, `Layers`, `Labels`."""
    words = dict(zip(("os", "arch", "variant"), platform.split("/"), strict=False))
    overrides = [f"--override-{name}={word}" for name, word in words.items()]
    found: dict[str, Any] = json.loads(
        _skopeo(*overrides, "inspect", *_access("", credentials), f"docker://{reference}")
    )
    return found


def skopeo_raw(reference: str, *, credentials: str = "") -> bytes:
    """The manifest or index behind a tag, byte for byte."""
    return _skopeo("inspect", "--raw", *_access("", credentials), f"docker://{reference}").encode()


def skopeo_copy(source: str, target: str, *, credentials: str = "") -> None:
    """Copies an index and all its children; `credentials` (`user:password`) are the target's."""
    access = [*_access("src-", ""), *_access("dest-", credentials)]
    _skopeo("copy", "--all", *access, f"docker://{source}", f"docker://{target}")


def _access(side: str, credentials: str) -> list[str]:
    flag = "dest-creds" if side else "creds"
    return [f"--{side}tls-verify=false", *([f"--{flag}={credentials}"] if credentials else [])]


def _config(login: Path | None) -> list[str]:
    return [f"--config={login}"] if login else []


def _skopeo(*arguments: str) -> str:
    return _output(program("skopeo"), *arguments)


def _output(*command: str) -> str:
    return run_limited(command, check=True, capture_output=True, text=True, timeout=240).stdout
