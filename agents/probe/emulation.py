"""Which architectures this machine executes, found by executing one tiny program of each, and what emulates them.

A program that runs does not tell the CPU from an emulator, so the kernel's register of emulators is read beside it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agents.probe import elf_stubs

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
# A broken emulator may hang; all programs together get this long.
_PATIENCE = 2.0
# Says something of the place, not of the program: mounted noexec, or forbidden by a security module.
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


def runs(environ: Mapping[str, str]) -> dict[str, bool]:
    """For each known architecture whether its program ended with 0 within two seconds."""
    with ExitStack() as kept:
        started = {name: _start(name, environ, kept) for name in elf_stubs.ARCHITECTURES}
        until = time.monotonic() + _PATIENCE
        return {name: _ended_well(process, until) for name, process in started.items()}


def binfmt(folder: Path = _BINFMT) -> dict[str, Any]:
    """The kernel's register of emulators: `entries` has those for the architectures `runs` knows."""
    status = _text(folder / "status")
    if not status:
        return {"mounted": False, "enabled": False, "entries": []}
    found = (_entry(path) for path in sorted(folder.iterdir()) if path.name not in {"register", "status"})
    entries = [entry for entry in found if entry is not None]
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
    """The running program; None where the machine cannot execute it. What `kept` holds must outlive it."""
    for place in _places(environ):
        try:
            path, fds = kept.enter_context(_placed(elf_stubs.program(name), place))
        except OSError:
            continue
        try:
            return kept.enter_context(_execute(path, fds))
        except OSError as error:
            if error.errno not in _FORBIDDEN:
                return None
    return None


def _execute(path: str, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen([path], stdin=null, stdout=null, stderr=null, pass_fds=fds)


def _places(environ: Mapping[str, str]) -> tuple[str, ...]:
    # In memory first: no disk is written, and no other thread's child can hold it open and make it "text file busy".
    # Kernels can be told to forbid that (vm.memfd_noexec), and /tmp is often mounted noexec.
    runtime = environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{os.getuid()}"
    return ("", "/var/tmp", str(Path.home()), runtime, "/tmp")  # noqa: S108 - mkdtemp makes the folder inside


@contextmanager
def _placed(program: bytes, folder: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The program as something that can be executed: a path, and the descriptors its process must inherit."""
    if not folder:
        memory = os.memfd_create("archloom-probe", os.MFD_CLOEXEC)
        try:
            os.write(memory, program)
            yield f"/proc/self/fd/{memory}", (memory,)
        finally:
            os.close(memory)
        return
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
