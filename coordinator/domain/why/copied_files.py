"""Which instructions of a Dockerfile use which files of the context, and so run again when a file changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coordinator.domain.dockerfile.bases import StageChain, scoped_chains
from coordinator.domain.dockerfile.context_sources import ContextSource, Unbounded, Wildcard, taken
from coordinator.domain.dockerfile.dockerignore import compile_include
from coordinator.domain.dockerfile.instructions import Instruction
from coordinator.domain.dockerfile.path_match import PatternError, matches, split_pattern
from coordinator.domain.dockerfile.scopes import in_scope
from coordinator.domain.dockerfile.stages import Dockerfile
from coordinator.domain.image.platforms import Platform
from coordinator.errors import UsageError

_MAX_CHARS = 60


@dataclass(frozen=True, slots=True)
class CopySource:
    """`text` is the instruction as displayed; `sources` are the paths that it uses, with variables expanded."""

    text: str
    line: int
    sources: tuple[ContextSource | Unbounded, ...]

    def takes(self, path: str) -> bool:
        """Return whether the instruction names this path of the context, or a folder above it.

        Files left out by `--exclude` count as used; what a symbolic link leads to does not.
        """
        return any(isinstance(source, Unbounded) or _names(source, path) for source in self.sources)


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
    return tuple(source for chain in chains for source in _copy_sources(chain))


def _copy_sources(chain: StageChain) -> Iterator[CopySource]:
    for instruction, readings in in_scope(chain.stages, chain.scope):
        sources = tuple(dict.fromkeys(taken(instruction, chain.scope, readings)))
        if sources:
            yield CopySource(_shown(instruction), instruction.line, sources)


def _shown(instruction: Instruction) -> str:
    text = f"{instruction.keyword.upper()} {instruction.arguments}"
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"


def _names(source: ContextSource, path: str) -> bool:
    try:
        match source.wildcard:
            case None:
                return f"{path}/".startswith(f"{source.path}/")
            case Wildcard.GO:
                return _is_below_match(source.path, path)
            case Wildcard.INCLUDE:
                return compile_include(source.path).ignores(path)
    except (PatternError, UsageError):  # BuildKit rejects the pattern too
        return False


def _is_below_match(pattern: str, path: str) -> bool:
    folder, wild = split_pattern(pattern)
    names = path.removeprefix(f"{folder}/").split("/")
    parts = wild.split("/")
    is_in_folder = not folder or path.startswith(f"{folder}/")
    return is_in_folder and len(names) >= len(parts) and all(map(matches, parts, names))
