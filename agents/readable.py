"""The proof that a build can read its context: what its builder cannot open it would take for empty, without a word.

A coordinator that is root sends files that an ordinary login cannot open again once they have their modes. BuildKit's
client sends nothing for such a file, and the image has an empty one: https://github.com/docker/buildx/issues/1781.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from agents import login
from agents.errors import AgentError

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def prove(root: bytes) -> None:
    """Opens every file and folder below `root`. Raises AgentError `unreadable` where one cannot be opened by us."""
    closed = list(_closed(root))
    if not closed:
        return
    path, why = closed[0]
    name = os.fsdecode(os.path.relpath(path, root))
    more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
    raise AgentError(
        "unreadable",
        f"{name!a} ({_mode(path)}){more} of the context cannot be opened by {login.user()}, the login here ({why}): "
        "it would be empty in the image; chmod u+r (u+rx for a folder), log in as root, or name it in .dockerignore",
    )


def _closed(root: bytes) -> Iterator[tuple[bytes, str]]:
    """What cannot be opened, and why not."""
    below: list[OSError] = []
    for parent, _, files in os.walk(root, onerror=below.append):
        for name in files:
            path = os.path.join(parent, name)  # noqa: PTH118 - names are bytes
            try:
                os.close(os.open(path, _OPEN))
            except OSError as error:
                if error.errno != errno.ELOOP:  # a link, which is sent as it is
                    yield path, os.strerror(error.errno or 0)
    yield from ((os.fsencode(error.filename), os.strerror(error.errno or 0)) for error in below)


def _mode(path: bytes) -> str:
    try:
        return f"mode {os.lstat(path).st_mode & 0o7777:04o}"
    except OSError:
        return "below a folder that is closed"
