"""An engine with a loopback of its own, as rootless engines and those in virtual machines have."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.commands import Child, run_limited
from tests.services.missing import missing, program

PATIENCE = 60.0
_START = """\
ip link set lo up
exec {dockerd} --config-file={folder}/daemon.json \
    --containerd-namespace={name} --containerd-plugins-namespace={name}-plugins \
    --host=unix://{folder}/docker.sock --data-root={folder}/data --exec-root={folder}/exec \
    --pidfile={folder}/pid --bridge=none --iptables=false --ip6tables=false --ip-forward=false
"""


@contextmanager
def walled_engine() -> Iterator[Path]:
    """The socket of a dockerd in a network namespace of its own; nothing of it is left afterwards."""
    if os.geteuid():
        missing("a second engine needs root")
    # Not below a test's own folder: the path of a socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="walled-") as made:
        folder = Path(made)
        (folder / "daemon.json").write_text("{}")
        # Where containerd is the machine's, other engines' containers are none of this one's.
        script = _START.format(dockerd=program("dockerd"), folder=folder, name=f"walled-{uuid.uuid4().hex}")
        with (folder / "log").open("wb") as log:
            engine = Child(["unshare", "--net", "--mount", "sh", "-c", script], stdout=log, stderr=log)
        try:
            wait_for_engine(folder / "docker.sock", engine, folder / "log")
            yield folder / "docker.sock"
        finally:
            engine.terminate()
            engine.wait(PATIENCE)


def wait_for_engine(socket: Path, engine: Child, log: Path) -> None:
    """Returns when it answers there; fails with the end of its log."""
    deadline = time.monotonic() + PATIENCE
    command = [program("docker"), "-H", f"unix://{socket}", "version"]
    while run_limited(command, capture_output=True, timeout=PATIENCE).returncode:
        assert engine.poll() is None, log.read_text("utf-8", "replace")[-2000:]
        assert time.monotonic() < deadline, log.read_text("utf-8", "replace")[-2000:]
