"""The real container engine of this machine, and QEMU as the kernel has it registered."""

from __future__ import annotations

import platform
import socket
from http.client import HTTPConnection
from pathlib import Path

from tests.services.missing import missing

SOCKET = Path("/var/run/docker.sock")
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_INTERPRETED = {"linux/amd64": "x86_64", "linux/arm64": "aarch64", "linux/arm/v7": "arm", "linux/arm/v6": "arm"}


class SocketConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float = 20) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def engine_socket() -> Path:
    """The socket of an engine that answers."""
    connection = SocketConnection(SOCKET)
    try:
        connection.request("GET", "/_ping")
        answer = connection.getresponse().read()
    except OSError as error:
        missing(f"no container engine answers at {SOCKET}: {error}")
    finally:
        connection.close()
    if answer != b"OK":
        missing(f"what answers at {SOCKET} is no container engine: {answer[:100]!r}")
    return SOCKET


def require_emulation(*platforms: str) -> None:
    """Makes sure that containers of these platforms run here: the machine's own, or registered with the flag F."""
    for wanted in platforms:
        name = _INTERPRETED[wanted]
        if name == platform.machine():
            continue
        entry = _BINFMT / f"qemu-{name}"
        words = entry.read_text("ascii") if entry.exists() else "absent"
        fixed = any(line.startswith("flags:") and "F" in line for line in words.splitlines())
        if not words.startswith("enabled") or not fixed:
            missing(f"QEMU is not registered for {wanted} ({entry}: {words.splitlines()[0]})")
