"""Whether a build failed because the frontend of its engine is older than the Dockerfile, and what helps then.

An engine reads a Dockerfile without a `# syntax` line with its own frontend. That of Docker 20.10 knows no heredocs and
none of the newer flags: https://github.com/moby/buildkit/releases/tag/dockerfile%2F1.4.0.
"""

from __future__ import annotations

import re

from coordinator.domain.dockerfile.newer_syntax import FIRST_VERSION
from coordinator.domain.hosts.problems import version

_HEREDOC = re.compile(r"dockerfile parse error.*: unknown instruction: ", re.IGNORECASE)
_FLAG = re.compile(
    r"unknown flag: (?:--)?(?:link|parents|exclude|keep-git-dir|checksum|unpack|start-interval|security|network)\b",
    re.IGNORECASE,
)
_MARK = "does not know this: "


def explained(message: str, engine_version: str) -> str:
    """Return the error of a build that had no `# syntax` line, with its cause in front where the frontend is one."""
    is_heredoc = _HEREDOC.search(message) and () < version(engine_version) < FIRST_VERSION
    if is_heredoc or _FLAG.search(message):
        return f"the BuildKit of Docker {engine_version} {_MARK}{message}"
    return message


def is_frontend_error(message: str) -> bool:
    """Return whether the message is one that `explained` has explained."""
    return message.startswith("the BuildKit of Docker ") and _MARK in message
