"""Which instructions of a Dockerfile use which files of the context, and so run again when a file changes.

Source: moby/buildkit `frontend/dockerfile/dockerfile2llb/convert.go` (`dispatchCopy`), `convert_runmount.go`. Patterns
follow Go's `filepath.Match`, with `**` as in `COPY --parents`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from coordinator.domain.dockerfile.bases import scoped_chains
from coordinator.domain.dockerfile.instructions import Instruction, json_words
from coordinator.domain.dockerfile.scopes import Scope, in_scope
from coordinator.domain.dockerfile.stages import Dockerfile, Stage
from coordinator.domain.image.platforms import Platform

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|[\w.-]+@[^/:\s]+:|<<", re.IGNORECASE)
_MAX_CHARS = 60
_MATCHES_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class CopySource:
    """`text` is the instruction as displayed; `sources` are the paths that it uses, with variables expanded."""

    text: str
    line: int
    sources: tuple[str, ...]

    def takes(self, path: str) -> bool:
        """Return whether the instruction uses this path of the context. Files left out by `--exclude` count as used."""
        return any(_pattern(source).match(f"{path}/") for source in self.sources)


def copy_sources(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
) -> tuple[CopySource, ...]:
    """Return the instructions that use files of the context, in all stages that `stage` needs, in Dockerfile order."""
    chains = scoped_chains(
        dockerfile, stage=stage, platform=platform, build_platform=build_platform, build_args=build_args
    )
    return tuple(taker for chain in chains for taker in _copy_sources(chain.stages, chain.scope))


def _copy_sources(chain: Sequence[Stage], scope: Scope) -> Iterator[CopySource]:
    """Yield the takers in the last stage of the chain."""
    for instruction, readings in in_scope(chain, scope):
        match instruction.keyword:
            case "copy" | "add":
                sources = tuple(
                    dict.fromkeys(path for values in readings for path in _sources(instruction, scope, values))
                )
                text = f"{instruction.keyword.upper()} {instruction.arguments}"
            case "run":
                sources = tuple(_mounted(instruction))
                text = f"RUN {instruction.arguments}"
            case _:
                continue
        if sources:
            yield CopySource(
                text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…", instruction.line, sources
            )


def _sources(instruction: Instruction, scope: Scope, values: Mapping[str, str]) -> Iterator[str]:
    if any(flag.name == "from" for flag in instruction.flags):
        return
    for word in (json_words(instruction.arguments) or [word.text for word in instruction.words])[:-1]:
        source = scope.expand(word, values).text
        if not _REMOTE.match(source):
            yield source


def _mounted(instruction: Instruction) -> Iterator[str]:
    """Yield the paths of the context that bind mounts without `from` use."""
    for flag in instruction.flags:
        if flag.name == "mount":
            settings = {
                key.lower(): value for key, _, value in (option.partition("=") for option in flag.value.split(","))
            }
            if settings.get("type", "bind") == "bind" and "from" not in settings:
                yield settings.get("source") or settings.get("src") or "."


@cache
def _pattern(source: str) -> re.Pattern[str]:
    """Return a pattern for paths with a trailing `/`: it matches the source itself and every path below it."""
    parts = posixpath.normpath(f"/{source}").strip("/").split("/")
    try:
        return re.compile("".join(_part(part) for part in parts if part))
    except re.error:  # for example the class [z-a], which BuildKit rejects too
        return _MATCHES_NOTHING


def _part(part: str) -> str:
    if part == "**":
        return r"(?:[^/]+/)*"
    return "".join(map(_translated, re.findall(r"\[\^?[^\]]+\]|\\.|.", part, re.DOTALL))) + "/"


def _translated(piece: str) -> str:
    if piece == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 1 and piece[0] == "[":
        return piece.replace("\\", "\\\\")
    return re.escape(piece[-1])
