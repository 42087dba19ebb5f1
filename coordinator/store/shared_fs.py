"""Detect a folder on a network file system, which other machines may mount too.

The index of SQLite's WAL is in shared memory, which ends at the machine: two machines that write one store would
corrupt it without an error, and neither could tell whether the other's driver is alive.
"""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
# Types as the kernel names them; FUSE types without `fuse.`. The file systems that connect a virtual machine to its
# hypervisor are left out: sandboxes use them for their root file system too.
_NETWORK_FS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "coda", "ceph", "lustre", "beegfs", "gpfs", "orangefs"),
        *("gfs2", "ocfs2", "glusterfs", "sshfs", "ceph-fuse", "mfs", "moosefs", "lizardfs", "juicefs", "s3fs"),
        *("rclone", "gcsfuse", "davfs", "curlftpfs", "gvfsd-fuse"),
    }
)
_MOUNT_POINT_FIELD = 4
_ESCAPED = re.compile(r"\\([0-7]{3})")


def shared_by_machines(path: Path) -> str | None:
    """Return the path's file system type where other machines share it; None where they do not, or it is unknown."""
    real = path.resolve()  # first: resolving the path mounts file systems that are mounted on demand
    try:
        table = _MOUNTINFO.read_text("utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = file_system(real, table)
    return kind if kind.removeprefix("fuse.") in _NETWORK_FS else None


def file_system(path: Path, table: str) -> str:
    """Return the type of the deepest mount in `table` (proc(5), mountinfo) that holds this absolute path; '' for none.

    Of several mounts on one folder, the last one is visible.
    """
    deepest, kind = Path(), ""
    for line in table.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if separator and len(fields) > _MOUNT_POINT_FIELD:
            point = Path(_ESCAPED.sub(lambda escape: chr(int(escape[1], 8)), fields[_MOUNT_POINT_FIELD]))
            if path.is_relative_to(point) and len(point.parts) >= len(deepest.parts):
                deepest, kind = point, source.split(" ")[0]
    return kind
