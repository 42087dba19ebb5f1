"""Probes the container engine, and the docker command lines that can drive it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.base.errors import AgentError
from agents.engine import docker_clis
from agents.engine.engine_api import EngineSocket, find_socket
from agents.engine.known_engine import learn
from agents.probe.machine import disk

_DAEMON_PATHS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/snap/bin"
_REASONS = frozenset({"absent", "denied", "down", "odd"})


def engine(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the observation's `engine`; only `kind`, `socket` and `error` where the engine does not answer."""
    path = ""
    try:
        path = find_socket(environ)
        api = EngineSocket(path)
        version, info = api.version(), api.info()
        facts = learn(api, version, info)
    except AgentError as error:
        return no_answer(path, *_reason(error, environ))
    root, *images = (_folder(path) for path in facts.folders)
    return {
        "kind": _kind(version),
        "socket": path,
        "version": version.get("Version", ""),
        "api": facts.most,
        "min_api": facts.least,
        "os": version.get("Os", ""),
        # May differ from the kernel's: a 32-bit engine on a 64-bit kernel pulls and runs 32-bit images.
        "arch": facts.architecture,
        "id": facts.id,
        **root,
        "images": images[0] if images else None,
        "rootless": "name=rootless" in (info.get("SecurityOptions") or ()),
        "store": info.get("Driver", ""),
        "error": None,
    }


def _folder(path: str) -> dict[str, Any]:
    free, total = disk(Path(path))
    return {"root": path, "free": free, "total": total}


def no_answer(path: str, code: str, message: str) -> dict[str, Any]:
    """Return the observation's `engine` where no engine answers at this path."""
    return {"kind": "docker", "socket": path, "error": {"code": code, "message": message}}


def command_line(cli: docker_clis.Cli, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return one entry of the observation's `clis`; `engine` is the observation's `engine`."""
    fits = cli.fits(engine.get("min_api", ""), engine.get("api", ""))
    return {"path": cli.path, "version": cli.version, "buildx": cli.buildx or None, "buildx_fits": fits}


def _kind(version: Mapping[str, Any]) -> str:
    # podman may listen on docker's socket too, and has no BuildKit.
    names = [str(part.get("Name", "")) for part in version.get("Components") or ()]
    return "podman" if any("podman" in name.lower() for name in names) else "docker"


def _reason(error: AgentError, environ: Mapping[str, str]) -> tuple[str, str]:
    import shutil  # an agent whose engine answers starts without

    reason = str(error.detail.get("reason", ""))
    places = os.pathsep.join((environ.get("PATH", ""), _DAEMON_PATHS))
    if reason == "absent" and shutil.which("dockerd", path=places) is not None:
        return "down", "the container engine is installed, but is not running"
    return (reason if reason in _REASONS else "odd"), error.message
