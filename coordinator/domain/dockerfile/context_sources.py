"""The paths of the context that a stage's instructions can take: the sources of COPY and ADD, and bind mounts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Wildcard(StrEnum):
    """How a source with wildcards is matched. `GO` is Go's `filepath.Match` on each component, which COPY and ADD use.

    `INCLUDE` is a pattern as in `.dockerignore`, where `**` matches any number of folders: COPY with `--parents`.
    """

    GO = "go"
    INCLUDE = "include"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSource:
    """One path or pattern that an instruction takes from the context, with all that is below it.

    `path` is relative to the context, with `/`, cleaned lexically, and never empty: a source that is the root makes the
    build take everything. `wildcard` is None where `path` is literal. `own_mode` tells whether the mode of a folder
    that `path` names counts, `parents` whether the modes of the folders above it count. A `required` path must exist;
    `line` counts from 1, and `text` is the source as the Dockerfile has it.
    """

    path: str
    wildcard: Wildcard | None
    own_mode: bool
    parents: bool
    required: bool
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextUse:
    """What a build takes of its context: `sources`, or all of it where `everything` names the line and the reason."""

    sources: tuple[ContextSource, ...] = ()
    everything: str = ""
