"""Where the engine keeps what it builds: below its root, and in containerd's store, which may be elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_CONTAINERD = "io.containerd.snapshotter.v1"
# Of a containerd that is a service of its own. https://github.com/containerd/containerd/blob/main/docs/ops.md
_SOCKET, _ROOT = "/run/containerd/containerd.sock", "/var/lib/containerd"
_CONFIG = Path("/etc/containerd/config.toml")
_TABLES = re.compile(r"^\s*\[", re.MULTILINE)
_SETTING = r"""^\s*{}\s*=\s*["']([^"']+)["']"""


def folders(info: Mapping[str, Any], config: Path = _CONFIG) -> tuple[str, ...]:
    """The engine's root and, where containerd keeps its images, that one's root: a build writes to both.

    `info` is the engine's `GET /info`. The folders need not exist, and we may not be allowed to look into them.
    """
    root = str(info.get("DockerRootDir") or "/")
    images = _image_store(info, config)
    return (root, images) if images else (root,)


def _image_store(info: Mapping[str, Any], config: Path) -> str:
    """The root of the containerd that keeps the engine's images; empty where a graph driver does, below the root."""
    if ["driver-type", _CONTAINERD] not in (info.get("DriverStatus") or ()):
        return ""
    said = ""
    with suppress(OSError):
        said = config.read_text(encoding="utf-8", errors="replace")
    if _is_service(info, said):
        # Only what stands before the first table is containerd's own.
        root = re.search(_SETTING.format("root"), _TABLES.split(said)[0], re.MULTILINE)
        return root[1] if root else _ROOT
    return os.path.join(str(info.get("DockerRootDir") or "/"), "containerd", "daemon")  # noqa: PTH118


def _is_service(info: Mapping[str, Any], config: str) -> bool:
    """Whether the engine uses a containerd it did not start, which it does wherever it finds one."""
    address = str((info.get("Containerd") or {}).get("Address") or "")
    if not address:  # engines before 27 do not say; a rootless one starts its own
        return os.path.lexists(_SOCKET) and "name=rootless" not in (info.get("SecurityOptions") or ())
    services = {_SOCKET, *re.findall(_SETTING.format("address"), config, re.MULTILINE)}
    return os.path.realpath(address) in {os.path.realpath(service) for service in services}
