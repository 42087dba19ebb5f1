"""`archloom`, whose secrets are written down: `recording.py FILE WORDS…` appends each to the file, in hex.

So a test can look for them where they must not be. The file is nowhere that archloom knows of.
"""

from __future__ import annotations

import os
import sys

from coordinator.domain.secrets import Secret


def record(file: str) -> None:
    """Makes this process write down every secret that it has from now on."""
    init = Secret.__init__
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def recorded(self: Secret, text: str) -> None:
        init(self, text)
        if text:
            os.write(out, text.encode("utf-8", "surrogateescape").hex().encode() + b"\n")

    Secret.__init__ = recorded  # type: ignore[method-assign]


if __name__ == "__main__":
    record(sys.argv[1])
    from coordinator.cli.main import run

    sys.exit(run(sys.argv[2:]))
