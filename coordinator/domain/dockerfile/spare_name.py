"""Whether a build's sources take a file of a name that nobody wrote, such as the name an agent gives a Dockerfile."""

from __future__ import annotations

import re

from coordinator.domain.dockerfile.context_sources import ContextUse, Wildcard

# The agent's, at the root of the context: `place_for` in agents/engine/context_tar.py.
_NAME = ".archloom.Dockerfile"
_SPECIAL = re.compile(r"[*?\\[]")


def takes_spare_name(use: ContextUse) -> bool:
    """Return whether a file of the agent's name at the root of the context would be in the build. True where unsure."""
    if use.everything:
        return True
    return any(
        source.wildcard is Wildcard.INCLUDE or _NAME.startswith(_SPECIAL.split(source.path)[0])
        for source in use.sources
        if source.wildcard is not None
    )
