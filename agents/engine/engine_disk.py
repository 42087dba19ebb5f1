"""Finds the folders an engine writes to: its root, and containerd's image store, which may be elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_CONTAINERD = "io.containerd.snapshotter.v1"
# Defaults of a containerd that is a separate service. https://github.com/containerd/containerd/blob/main/docs/ops.md
_SERVICE_SOCKET, _SERVICE_ROOT = "/run/containerd/containerd.sock", "/var/lib/containerd"
_CONFIG = Path("/etc/containerd/config.toml")
_TABLE_HEADER = re.compile(r"^\s*\[", re.MULTILINE)
_SETTING = r"""^\s*{}\s*=\s*["']([^"']+)["']"""


def folders(info: Mapping[str, Any], config: Path = _CONFIG) -> tuple[str, ...]:
    """Return the engine's root and, where containerd stores its images, containerd's root: a build writes to both.

    `info` is the engine's `GET /info`. The folders may not exist, or may not be readable for this user.
    """
    root = str(info.get("DockerRootDir") or "/")
    images = _image_store(info, config)
    return (root, images) if images else (root,)


def _image_store(info: Mapping[str, Any], config: Path) -> str:
    """Return the root of the containerd that stores the engine's images; empty for a graph driver, below the root."""
    if ["driver-type", _CONTAINERD] not in (info.get("DriverStatus") or ()):
        return ""
    config_text = ""
    with suppress(OSError):
        config_text = config.read_text(encoding="utf-8", errors="replace")
    if _is_service(info, config_text):
        # TOML: only keys before the first table header are containerd's top-level settings.
        root = re.search(_SETTING.format("root"), _TABLE_HEADER.split(config_text)[0], re.MULTILINE)
        return root[1] if root else _SERVICE_ROOT
    return os.path.join(str(info.get("DockerRootDir") or "/"), "containerd", "daemon")  # noqa: PTH118


def _is_service(info: Mapping[str, Any], config: str) -> bool:
    """Return whether the engine uses a containerd it did not start, which it does wherever one runs."""
    address = str((info.get("Containerd") or {}).get("Address") or "")
    if not address:  # not reported before Docker 27; a rootless engine starts its own
        return os.path.lexists(_SERVICE_SOCKET) and "name=rootless" not in (info.get("SecurityOptions") or ())
    services = {_SERVICE_SOCKET, *re.findall(_SETTING.format("address"), config, re.MULTILINE)}
    return os.path.realpath(address) in {os.path.realpath(service) for service in services}
