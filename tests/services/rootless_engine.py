"""A real rootless dockerd: a user of its own, its own network, and a loopback that nobody else sees."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.commands import Child
from tests.services.missing import missing, program
from tests.services.walled_engine import PATIENCE, wait_for_engine

_USER = 61717
_SCRIPTS = ("/usr/share/docker.io/contrib/dockerd-rootless.sh", "/usr/bin/dockerd-rootless.sh")
# The user and their subordinate ids exist in this mount namespace only; so does a tun device that they may use.
_START = """\
set -eu
mount -t tmpfs -o mode=755 none /dev/net
mknod -m 666 /dev/net/tun c 10 200
for name in passwd group subuid subgid; do
    [ -e /etc/$name ] || touch /etc/$name
    mount --bind {folder}/etc/$name /etc/$name
done
exec setpriv --reuid={user} --regid={user} --clear-groups \
    env -i HOME={folder}/home USER=walled XDG_RUNTIME_DIR={folder}/run PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    sh {script} --config-file={folder}/daemon.json --storage-driver=vfs --iptables=false --bridge=none
"""


@contextmanager
def rootless_engine() -> Iterator[Path]:
    """Its socket; nothing of it is left afterwards."""
    if os.geteuid():
        missing("another user to be: run as root")
    for name in ("rootlesskit", "slirp4netns", "newuidmap"):
        program(name)
    script = next((path for path in _SCRIPTS if Path(path).exists()), "")
    if not script:
        missing(f"there is none of {', '.join(_SCRIPTS)}")
    # Open to the other user, and short: the path of a socket has 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rootless-", dir="/var/tmp"))
    try:
        _prepare(folder)
        start = _START.format(folder=folder, user=_USER, script=script)
        with (folder / "log").open("wb") as log:
            engine = Child(["unshare", "--mount", "sh", "-c", start], stdout=log, stderr=log)
        try:
            wait_for_engine(folder / "run" / "docker.sock", engine, folder / "log")
            yield folder / "run" / "docker.sock"
        finally:
            engine.terminate()
            engine.wait(PATIENCE)
    finally:
        shutil.rmtree(folder)


def _prepare(folder: Path) -> None:
    folder.chmod(0o755)
    for name in ("home", "run"):
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, _USER, _USER)
    etc = folder / "etc"
    etc.mkdir()
    user = f"walled:x:{_USER}:{_USER}::{folder}/home:/bin/sh\n"
    (etc / "passwd").write_text(Path("/etc/passwd").read_text() + user)
    (etc / "group").write_text(Path("/etc/group").read_text() + f"walled:x:{_USER}:\n")
    for name in ("subuid", "subgid"):
        (etc / name).write_text("walled:1000000:65536\n")
    (folder / "daemon.json").write_text("{}")
