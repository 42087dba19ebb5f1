"""Whether a build's sources take a file of a name that nobody wrote: the one that an agent gives a Dockerfile."""

from __future__ import annotations

from coordinator.domain.dockerfile.context_sources import ContextSource, ContextUse, Wildcard
from coordinator.domain.dockerfile.path_match import PatternError, matches

# At the root of the context: `place_for` in agents/engine/context_tar.py.
_NAME = ".archloom.Dockerfile"


def taking_spare_name(use: ContextUse) -> str:
    """Return the line that takes a file of the agent's name at the root of the context; empty where none does."""
    if use.everything:
        return use.everything
    return next((f"line {source.line}: {source.text}" for source in use.sources if _takes(source)), "")


def _takes(source: ContextSource) -> bool:
    """Return True where unsure."""
    if source.wildcard is Wildcard.INCLUDE:
        return True
    try:
        return source.wildcard is Wildcard.GO and matches(source.path, _NAME)
    except PatternError:
        return True
