"""A folder as another machine gives it: sshfs, with the server's side as its child instead of behind a connection."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.commands import Child, run_limited
from tests.services.missing import missing, program

_SERVER = "/usr/lib/openssh/sftp-server"
PATIENCE = 10.0


@contextmanager
def shared_folder(folder: Path) -> Iterator[Path]:
    """`folder` is made, and is there while the block runs. Needs root, and /dev/fuse."""
    sshfs, _ = program("sshfs"), Path("/dev/fuse").exists() or missing("there is no /dev/fuse")
    behind = folder.with_name(f"{folder.name}-behind")
    for one in (folder, behind):
        one.mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = Child([_SERVER], stdin=theirs, stdout=theirs)
        client = Child([sshfs, f":{behind}", str(folder), "-f", "-o", "passive"], stdin=ours, stdout=ours)
    try:
        _wait_for_mount(folder)
        yield folder
    finally:
        run_limited(["umount", str(folder)], timeout=PATIENCE)
        client.wait(PATIENCE)
        server.wait(PATIENCE)


def _wait_for_mount(folder: Path) -> None:
    with Path("/proc/self/mountinfo").open("rb") as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)  # the kernel's way to say that it has changed
        until = time.monotonic() + PATIENCE
        while not os.path.ismount(folder):
            left = until - time.monotonic()
            assert left > 0, f"sshfs did not mount {folder}"  # others do, meanwhile
            poll.poll(left * 1000)
