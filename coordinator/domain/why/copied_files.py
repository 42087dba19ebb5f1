"""Which instructions of a Dockerfile take which files of the context: what a changed file makes run again.

Source: moby/buildkit `frontend/dockerfile/dockerfile2llb/convert.go` (`dispatchCopy`), `convert_runmount.go`; patterns
are Go's `filepath.Match`, `**` as `COPY --parents` has it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from coordinator.domain.dockerfile.bases import Dockerfile, scoped_chains
from coordinator.domain.dockerfile.instructions import Instruction, json_words
from coordinator.domain.dockerfile.remote_sources import Scope, in_scope
from coordinator.domain.dockerfile.stages import Stage
from coordinator.domain.image.platforms import Platform

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|[\w.-]+@[^/:\s]+:|<<", re.IGNORECASE)
_LONGEST = 60
_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class Taker:
    """`text` is the instruction as a person would name it; `sources` are what it takes, with variables replaced."""

    text: str
    line: int
    sources: tuple[str, ...]

    def takes(self, path: str) -> bool:
        """Whether this path of the context is among what it takes. What `--exclude` leaves out counts as taken."""
        return any(_pattern(source).match(f"{path}/") for source in self.sources)


def takers(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
) -> tuple[Taker, ...]:
    """Every instruction of the stages that `stage` needs which takes files of the context, in the order of the file."""
    chains = scoped_chains(
        dockerfile, stage=stage, platform=platform, build_platform=build_platform, build_args=build_args
    )
    return tuple(taker for chain, scope in chains for taker in _takers(chain, scope))


def _takers(chain: Sequence[Stage], scope: Scope) -> Iterator[Taker]:
    """Those of the last stage of the chain."""
    for instruction, values in in_scope(chain, scope):
        match instruction.keyword:
            case "copy" | "add":
                sources = tuple(_sources(instruction, scope, values))
                text = f"{instruction.keyword.upper()} {instruction.arguments}"
            case "run":
                sources = tuple(_mounted(instruction))
                text = f"RUN {instruction.arguments}"
            case _:
                continue
        if sources:
            yield Taker(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…", instruction.line, sources)


def _sources(instruction: Instruction, scope: Scope, values: Mapping[str, str]) -> Iterator[str]:
    if any(flag.name == "from" for flag in instruction.flags):
        return
    for word in (json_words(instruction.arguments) or [word.text for word in instruction.words])[:-1]:
        source = scope.expand(word, values).text
        if not _REMOTE.match(source):
            yield source


def _mounted(instruction: Instruction) -> Iterator[str]:
    """What a bind mount without `from` shows of the context."""
    for flag in instruction.flags:
        if flag.name == "mount":
            settings = {
                key.lower(): value for key, _, value in (option.partition("=") for option in flag.value.split(","))
            }
            if settings.get("type", "bind") == "bind" and "from" not in settings:
                yield settings.get("source") or settings.get("src") or "."


@cache
def _pattern(source: str) -> re.Pattern[str]:
    """Matches a path with a `/` behind it that is the source, or below it."""
    parts = posixpath.normpath(f"/{source}").strip("/").split("/")
    try:
        return re.compile("".join(_part(part) for part in parts if part))
    except re.error:  # a class such as [z-a], which the builder refuses too
        return _NOTHING


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
