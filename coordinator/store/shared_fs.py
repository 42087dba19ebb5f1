"""Whether a folder lies on a file system that other machines mount too.

SQLite's journal is shared through memory, which ends at the machine: two of them that write one store would each find
it whole and leave it broken, and neither could tell whether the other's driver lives.
"""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
# As the kernel names them; those behind FUSE by what follows `fuse.`. File systems that join a virtual machine to its
# host are not among them: they are also what a sandbox's root is made of.
_SHARED = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "coda", "ceph", "lustre", "beegfs", "gpfs", "orangefs"),
        *("gfs2", "ocfs2", "glusterfs", "sshfs", "ceph-fuse", "mfs", "moosefs", "lizardfs", "juicefs", "s3fs"),
        *("rclone", "gcsfuse", "davfs", "curlftpfs", "gvfsd-fuse"),
    }
)
_POINT = 4
_ESCAPED = re.compile(r"\\([0-7]{3})")


def shared_by_machines(path: Path) -> str | None:
    """The kind of file system this path lies on where other machines share it. None too where nobody can tell."""
    real = path.resolve()  # first: on the way, file systems that are mounted on demand are
    try:
        table = _MOUNTINFO.read_text("utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = file_system(real, table)
    return kind if kind.removeprefix("fuse.") in _SHARED else None


def file_system(path: Path, table: str) -> str:
    """The kind of the deepest of the mounts in `table` (proc(5), mountinfo) that hold this absolute path; '' for none.

    Of several on one folder the last is on top.
    """
    deepest, kind = Path(), ""
    for line in table.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if separator and len(fields) > _POINT:
            point = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[_POINT]))
            if path.is_relative_to(point) and len(point.parts) >= len(deepest.parts):
                deepest, kind = point, source.split(" ")[0]
    return kind
