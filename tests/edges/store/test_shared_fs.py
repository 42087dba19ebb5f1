"""A state folder that other machines mount is told by the kernel's list of mounts, and refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.cli.main import run
from coordinator.domain.run.events import Notice
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.state.open_store import open_history
from coordinator.store.shared_fs import file_system, shared_by_machines
from coordinator.store.sqlite import Store
from tests.services.shared_folder import shared_folder

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
40 22 0:45 / /home rw shared:2 - autofs systemd-1 rw,fd=36,pgrp=1,timeout=0
41 40 0:50 / /home/ada rw,relatime shared:9 master:3 - nfs4 nas.lan:/export/ada rw,vers=4.2
42 41 0:51 / /home/ada/local\040disk rw - btrfs /dev/sdb1 rw
43 22 0:52 / /home/bob rw - ext4 /dev/sdc1 rw
44 43 0:53 / /home/bob rw - fuse.sshfs bob@nas:/ rw
45 22 0:54 / /mnt/grüße rw - cifs //nas/share rw
46 22 0:55 / /var/lib/docker/x/merged rw - fuse.fuse-overlayfs fuse-overlayfs rw
47 22 0:56 /@home /srv rw - btrfs /dev/sda1 rw
a line that says nothing
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/root/.local/state/archloom/archloom.db", "ext4"),
        ("/home/ada/.local/state/archloom/archloom.db", "nfs4"),
        ("/home/ada/local disk/state", "btrfs"),
        ("/home/adam/state", "autofs"),
        ("/home/bob/state", "fuse.sshfs"),
        ("/mnt/grüße/state", "cifs"),
        ("/mnt/other", "ext4"),
        ("/srv/state", "btrfs"),
    ],
)
def test_the_deepest_mount_holds_a_path(path, kind):
    """By whole names, the last of several on one folder, with the kernel's escapes undone."""
    assert file_system(Path(path), TABLE) == kind


def test_of_a_table_that_says_nothing_nothing_is_told():
    """A kernel without it, or a container that shows none of it, is no reason to refuse."""
    assert file_system(Path("/home"), "") == ""


def test_a_disk_of_this_machine_is_not_shared(tmp_path):
    """Whatever it is that tests run on."""
    assert shared_by_machines(tmp_path / "not" / "there") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_shared_state_folder_is_refused_with_the_reason(tmp_path, monkeypatch, capsys):
    """Exit 2, by a build too: two machines would break what either wrote. A link does not hide it; nothing is made."""
    told: list[Notice] = []
    with shared_folder(tmp_path / "mnt") as mounted:
        (tmp_path / "link").symlink_to(mounted)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "link"))
        env = Environment(
            environ={}, home=tmp_path, folder=tmp_path, state=mounted / "archloom", clock=lambda: 0.0, holder="u@m"
        )

        code = run(["runs"])
        with pytest.raises(UsageError) as caught, open_history(env, told.append):
            pass
        with pytest.raises(UsageError):
            Store(tmp_path / "link" / "x.db", lambda: 0.0)
        left = list(mounted.iterdir())

    assert code == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        f"error: the state folder {tmp_path}/link/archloom is on fuse.sshfs, "
        "which other machines may mount too: SQLite is not safe there"
    )
    assert said[1].startswith("hint: give a folder on a disk of this machine with XDG_STATE_HOME")
    assert (caught.value.code, told, left) == ("shared", [], [])
