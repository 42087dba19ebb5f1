"""Finds the architectures this host executes, by running a minimal program of each, and the binfmt_misc entries.

A program's success does not tell native execution from emulation, so the kernel's binfmt_misc entries are read as well.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agents.base import login
from agents.probe import elf_stubs

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
# A broken binfmt_misc handler may hang; this is the limit for all programs together.
_RUN_TIMEOUT_S = 2.0
# Errors caused by the folder, not by the program: mounted noexec, or denied by a security module.
_FOLDER_ERRNOS = frozenset({errno.EACCES, errno.EPERM})


def runs(environ: Mapping[str, str]) -> dict[str, bool]:
    """Return for each known architecture whether its program exited with 0 within two seconds."""
    with ExitStack() as resources:
        started = {name: _start(name, environ, resources) for name in elf_stubs.ARCHITECTURES}
        deadline = time.monotonic() + _RUN_TIMEOUT_S
        return {name: _ended_well(process, deadline) for name, process in started.items()}


def binfmt(folder: Path = _BINFMT) -> dict[str, Any]:
    """Return the state of binfmt_misc; `entries` has the handlers for the architectures that `runs` knows."""
    status = _text(folder / "status")
    if not status:
        return {"mounted": False, "enabled": False, "entries": []}
    parsed = (_entry(path) for path in sorted(folder.iterdir()) if path.name not in {"register", "status"})
    entries = [entry for entry in parsed if entry is not None]
    return {"mounted": True, "enabled": status.strip() == "enabled", "entries": entries}


def _entry(path: Path) -> dict[str, Any] | None:
    lines = _text(path).splitlines()
    fields = dict(line.split(None, 1) for line in lines if " " in line.strip())
    architecture = elf_stubs.architecture_of(bytes.fromhex(fields.get("magic", "").strip()))
    if architecture is None or fields.get("offset", "0").strip() != "0":
        return None
    return {
        "name": path.name,
        "enabled": "enabled" in lines,
        "interpreter": fields.get("interpreter", ""),
        "flags": fields.get("flags:", "").strip(),
        "magic_arch": architecture,
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _start(name: str, environ: Mapping[str, str], kept: ExitStack) -> subprocess.Popen[bytes] | None:
    """Start the program and return its process; None where the host cannot execute it.

    `kept` must stay open while the program runs.
    """
    for place in _places(environ):
        try:
            path, fds = kept.enter_context(_placed(elf_stubs.program(name), place))
        except OSError:
            continue
        try:
            return kept.enter_context(_execute(path, fds))
        except OSError as error:
            if error.errno not in _FOLDER_ERRNOS:
                return None
    return None


def _execute(path: str, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen([path], stdin=null, stdout=null, stderr=null, pass_fds=fds)


def _places(environ: Mapping[str, str]) -> tuple[str, ...]:
    # In memory ("") first: no disk is written, and exec cannot fail with ETXTBSY. It does for a file that is open for
    # writing (execve(2)), also in a child that another thread has just forked (golang/go#22315); a descriptor from
    # memfd_create(2) does not count. The sysctl vm.memfd_noexec (Linux 6.3) may forbid it, and /tmp is often noexec.
    runtime = environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{os.getuid()}"
    return ("", "/var/tmp", str(login.home()), runtime, "/tmp")  # noqa: S108 - mkdtemp makes the folder inside


@contextmanager
def _placed(program: bytes, folder: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Write the program to this folder, or to memory for "". Yield its path and the descriptors it must inherit."""
    if not folder:
        memory = os.memfd_create("archloom-probe", os.MFD_CLOEXEC)
        try:
            os.write(memory, program)
            yield f"/proc/self/fd/{memory}", (memory,)
        finally:
            os.close(memory)
        return
    import tempfile  # a host that runs programs in memory starts without

    with tempfile.TemporaryDirectory(prefix="archloom-probe-", dir=folder) as made:
        path = Path(made, "program")
        path.write_bytes(program)
        path.chmod(0o700)
        yield str(path), ()


def _ended_well(process: subprocess.Popen[bytes] | None, until: float) -> bool:
    if process is None:
        return False
    try:
        return process.wait(max(0.0, until - time.monotonic())) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        return False
