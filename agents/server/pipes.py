"""The two pipes of a channel: stdin and stdout of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agents.wire import frames


class Pipes(NamedTuple):
    """Private copies of stdin and stdout. All other output goes to stderr; other readers of stdin get /dev/null."""

    reader: BinaryIO
    writer: BinaryIO
    replies: frames.Replies


def take_pipes() -> Pipes:
    """Take stdin and stdout for the channel. Called once."""
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Pipes(reader, writer, frames.Replies(writer))
