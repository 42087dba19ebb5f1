r"""The paths of the context that a build can take: the sources of COPY and ADD, and bind mounts.

No path that the image needs may be missing. What is not understood is taken from the longest literal folder before it,
or the build takes everything. A path too many costs time alone.

Sources: moby/buildkit `frontend/dockerfile/dockerfile2llb/convert_copy.go` and `convert_runmount.go`, which decide what
is copied; tonistiigi/fsutil `copy/copy.go`, which resolves wildcards.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from coordinator.domain.closest import closest
from coordinator.domain.dockerfile import mounts
from coordinator.domain.dockerfile.bases import BUILD_PLATFORM, Configs, StageChain, scoped_chains
from coordinator.domain.dockerfile.expansion import Expanded, ExpansionError, expand
from coordinator.domain.dockerfile.instructions import Flag, Instruction, is_heredoc, word_readings
from coordinator.domain.dockerfile.mounts import MountError
from coordinator.domain.dockerfile.path_match import PatternError, crosses_folders, has_wildcards, split_pattern
from coordinator.domain.dockerfile.remote_sources import is_remote
from coordinator.domain.dockerfile.scopes import Scope, in_scope
from coordinator.domain.dockerfile.stages import Dockerfile, declared
from coordinator.domain.dockerfile.syntax import Syntax, effective_syntax
from coordinator.domain.image.platforms import Platform

_FLAGS = {
    "copy": frozenset({"from", "chown", "chmod", "link", "parents", "exclude"}),
    "add": frozenset({"chown", "chmod", "link", "exclude", "keep-git-dir", "checksum", "unpack"}),
}
# Flags that have meant other things in labs releases of the frontend.
_LABS_FLAGS = frozenset({"parents", "exclude"})
_NOT_OF_THE_CONTEXT = ("cache", "secret", "ssh", "tmpfs")
# With it, the scanner of `--sbom` reads the whole context.
_SCAN_CONTEXT = "BUILDKIT_SBOM_SCAN_CONTEXT"
_BUILD_PLATFORM = re.compile(r"BUILD(PLATFORM|OS|ARCH|VARIANT)")
_FROM_BUILD_PLATFORM = re.compile(r"--platform=\$(BUILDPLATFORM\b|\{BUILDPLATFORM\})")


class Wildcard(StrEnum):
    """How a source with wildcards is matched. `GO` is Go's `filepath.Match` on each component, which COPY and ADD use.

    `INCLUDE` is a pattern as in `.dockerignore`, where `**` matches any number of folders: COPY with `--parents`.
    """

    GO = "go"
    INCLUDE = "include"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSource:
    r"""One path or pattern that an instruction takes from the context, with all that is below it.

    `path` is relative to the context, with `/`, cleaned lexically, and never empty: a source that is the root makes the
    build take everything. `wildcard` is None where `path` is literal. A `GO` pattern begins at the first component with
    wildcards; components before it are literal, `\` included (`path_match.split_pattern`). `own_mode` tells whether the
    mode of a folder that `path` names counts, `parents` whether the modes of the folders above it count. A `required`
    path must exist; `line` counts from 1, and `text` is the source as the Dockerfile has it.
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
    """What a build takes of its context: `sources`, or all of it where `everything` names the line and the reason.

    With `everything`, `sources` are the literal ones that must exist.
    """

    sources: tuple[ContextSource, ...] = ()
    everything: str = ""


@dataclass(frozen=True, slots=True)
class Unbounded:
    """The instruction on this line may take any path; `reason` is the text for the user. Line 0 is no line."""

    line: int
    reason: str


def context_use(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platforms: Sequence[Platform],
    build_args: Mapping[str, str],
    configs: Configs,
) -> ContextUse:
    """Return what the build of `stage` (the last one, if empty) for this platform can take of its context.

    `build_platforms` are those that `$BUILDPLATFORM` may have, at least one. `configs` has the base images by name and
    platform; BUILD_PLATFORM there stands for each of `build_platforms`. A base without a configuration makes the build
    take everything: its ONBUILD is not known. `.dockerignore` and `--exclude` are not subtracted. Raises UsageError as
    `plan_bases` does.
    """
    uses = [
        _use(dockerfile, stage, platform, build_platform, build_args, configs) for build_platform in build_platforms
    ]
    first = uses[0]
    unbounded = next((found for use in uses for found in use if isinstance(found, Unbounded)), None)
    if unbounded is None and any(use != first for use in uses):
        line = min(found.line for use in uses for found in set(use) ^ set(first))
        unbounded = Unbounded(line, "what is taken depends on the platform of the host that builds")
    if unbounded is not None:
        where = f"{dockerfile.path}:{unbounded.line}" if unbounded.line else dockerfile.path
        required = (
            found
            for found in first
            if isinstance(found, ContextSource) and found.required and all(found in use for use in uses)
        )
        return ContextUse(sources=tuple(required), everything=f"{where}: {unbounded.reason}")
    return ContextUse(sources=tuple(found for found in first if isinstance(found, ContextSource)))


def names_build_platform(dockerfile: Dockerfile, configs: Configs) -> bool:
    """Return whether a source may depend on the platform of the host that builds.

    `FROM --platform=$BUILDPLATFORM` alone does not make it so: it chooses the variant of a base.
    """
    texts = (dockerfile.text, *(trigger for config in configs.values() for trigger in config.triggers))
    return any(_BUILD_PLATFORM.search(_FROM_BUILD_PLATFORM.sub("", text)) for text in texts)


def taken(
    instruction: Instruction, scope: Scope, readings: Sequence[Mapping[str, str]], syntax: Syntax | None = None
) -> Iterator[ContextSource | Unbounded]:
    """Yield what one instruction takes of the context, in each reading of its variables."""
    find = {"copy": _copied, "add": _copied, "run": _mounted}.get(instruction.keyword)
    if find is None:
        return
    for values in readings:
        for found in find(instruction, scope, values, syntax):
            if isinstance(found, ContextSource):
                # Which of two readings the engine has is not known, so that neither path must exist.
                yield replace(found, required=found.required and len(readings) == 1)
            else:
                origin = f"ONBUILD of {instruction.onbuild_of}: " if instruction.onbuild_of else ""
                yield Unbounded(found.line, f"{origin}{found.reason}")


def _use(
    dockerfile: Dockerfile,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
    configs: Configs,
) -> tuple[ContextSource | Unbounded, ...]:
    syntax = effective_syntax(dockerfile.text, build_args)
    if syntax is not None and syntax.is_foreign:
        origin = "" if syntax.line else "the build argument BUILDKIT_SYNTAX: "
        reason = f"{origin}the frontend {syntax.image} may take any file"
        return (Unbounded(syntax.line, reason),)
    if _SCAN_CONTEXT in build_args or _SCAN_CONTEXT in declared(dockerfile):
        return (Unbounded(0, f"{_SCAN_CONTEXT} lets a scanner read the whole context"),)
    of_host = {(text, build_platform): config for (text, of), config in configs.items() if of == BUILD_PLATFORM}
    chains = scoped_chains(
        dockerfile,
        stage=stage,
        platform=platform,
        build_platform=build_platform,
        build_args=build_args,
        configs={**of_host, **configs},
    )
    return tuple(dict.fromkeys(found for chain in chains for found in _of_chain(chain, syntax)))


def _of_chain(chain: StageChain, syntax: Syntax | None) -> Iterator[ContextSource | Unbounded]:
    if not chain.is_known:
        reason = f"the configuration of {chain.base} is not known, and its ONBUILD may take any file"
        yield Unbounded(chain.stages[0].line, reason)
    if chain.platform.os == "windows":
        yield Unbounded(chain.stages[0].line, "sources are not read as Windows reads them")
    for instruction, readings in in_scope(chain.stages, chain.scope):
        for found in taken(instruction, chain.scope, readings, syntax):
            if isinstance(found, ContextSource):
                # A base that is not known may set the variables of a source; Windows may read its path otherwise.
                is_sure = (chain.is_known or "$" not in found.text) and chain.platform.os != "windows"
                yield replace(found, required=found.required and is_sure)
            else:
                yield found


def _copied(
    instruction: Instruction, scope: Scope, values: Mapping[str, str], syntax: Syntax | None
) -> Iterator[ContextSource | Unbounded]:
    names = {flag.name for flag in instruction.flags}
    words, *others = word_readings(instruction)
    local = [word for word in words[:-1] if not is_heredoc(word)]
    if instruction.keyword == "copy" and any(flag.name == "from" and flag.value for flag in instruction.flags):
        return
    keyword = instruction.keyword.upper()
    if others:
        yield Unbounded(instruction.line, f"what {keyword} takes is not known: text follows its JSON list")
        return
    if not local:
        return
    odd = names - _FLAGS[instruction.keyword]
    if syntax is not None and syntax.is_labs:
        odd |= names & _LABS_FLAGS
    if odd:
        near = closest(min(odd), _FLAGS[instruction.keyword])
        meant = f" (did you mean --{near}?)" if near and near not in odd else ""
        yield Unbounded(instruction.line, f"what {keyword} --{min(odd)} takes is not known{meant}")
        return
    find = _with_parents if _is_set(instruction.flags, "parents") else _plain
    for word in local:
        try:
            expanded = expand(word, values, scope.escape)
        except ExpansionError as error:
            yield Unbounded(instruction.line, f"{keyword} {word} cannot be expanded: {error}")
            continue
        if not expanded.text.startswith(("http://", "https://")):
            yield find(instruction, word, expanded)


def _plain(instruction: Instruction, word: str, expanded: Expanded) -> ContextSource | Unbounded:
    path = cleaned(expanded.text)
    make = partial(_source, instruction, word)
    if not path:
        return make("")
    if not has_wildcards(path):
        # In BuildKit's transfer a leading `!` excludes: the path is taken for an engine that does not find it. Other
        # remote forms than http are files to the frontend of Docker 20.10, which has no ADD of Git repositories.
        sure = not expanded.unset and not path.startswith("!") and not is_remote(expanded.text)
        return make(path, required=sure)
    folder, pattern = split_pattern(path)
    try:
        # Go matches the pattern against the whole path below the folder, so that a class may match `/`.
        whole = any(crosses_folders(part) for part in pattern.split("/"))
    except PatternError:
        whole = True
    return make(folder) if whole else make(path, wildcard=Wildcard.GO)


def _with_parents(instruction: Instruction, word: str, expanded: Expanded) -> ContextSource | Unbounded:
    """Return the source of COPY with `--parents`: what follows `/./` is a pattern of patternmatcher."""
    parent, pivot, pattern = expanded.text.partition("/./")
    parent, pattern = (cleaned(parent), cleaned(pattern)) if pivot else ("", cleaned(expanded.text))
    path = posixpath.join(parent, pattern) if pattern else parent
    make = partial(_source, instruction, word, own_mode=True, parents=True)
    parts = path.split("/")
    odd = next((index for index, part in enumerate(parts) if _is_odd(part)), None)
    if odd is not None:
        return make("/".join(parts[:odd]))
    if parts[-1] == "**" and not any(map(has_wildcards, parts[:-1])):
        return make("/".join(parts[:-1]))
    if has_wildcards(path):
        return make(path, wildcard=Wildcard.INCLUDE)
    return make(path, required=not expanded.unset)


def _is_odd(part: str) -> bool:
    r"""Return whether Go's two matchers may read this component otherwise than as it is written.

    Patternmatcher removes blanks around a pattern, takes `!` for an exception, and a class and `\` as regular
    expressions do.
    """
    return part != part.strip() or part.startswith("!") or any(char in part for char in "[]\\^")


def _source(
    instruction: Instruction,
    word: str,
    path: str,
    *,
    wildcard: Wildcard | None = None,
    own_mode: bool = False,
    parents: bool = False,
    required: bool = False,
) -> ContextSource | Unbounded:
    keyword = instruction.keyword.upper()
    if not path:
        return Unbounded(instruction.line, f"{keyword} {word} takes the whole context")
    return ContextSource(
        path=path,
        wildcard=wildcard,
        own_mode=own_mode,
        parents=parents,
        required=required,
        line=instruction.line,
        text=word,
    )


def _mounted(
    instruction: Instruction, scope: Scope, values: Mapping[str, str], syntax: Syntax | None
) -> Iterator[ContextSource | Unbounded]:
    """Yield the sources of bind mounts, which know no wildcards, as written and with variables expanded.

    Frontends up to 1.4 do not expand variables in mounts, so that only a mount without variables is required. BuildKit
    reads its source also where the step is in the cache: it is part of the cache key.
    """
    del syntax
    for flag in instruction.flags:
        if flag.name != "mount":
            continue
        try:
            settings = {key: setting.value for key, setting in mounts.settings(flag.value).items()}
            kind = expand(settings.get("type", "bind"), values, scope.escape).text.lower()
            written = settings.get("source", "")
            paths = [cleaned(written), cleaned(expand(written, values, scope.escape).text)]
        except (MountError, ExpansionError) as error:
            yield Unbounded(instruction.line, f"--mount={flag.value} cannot be read: {error}")
            continue
        if kind not in _NOT_OF_THE_CONTEXT and not settings.get("from"):
            sure = "$" not in flag.value
            for path in dict.fromkeys(paths):
                yield _source(instruction, f"--mount={flag.value}", path, own_mode=True, required=sure)


def cleaned(text: str) -> str:
    """Return the path that BuildKit reads below the context: cleaned lexically, `..` stops at the root, which is empty.

    Links are followed afterwards.
    """
    return posixpath.normpath(f"/{text}").strip("/")


def _is_set(flags: Iterable[Flag], name: str) -> bool:
    return any(flag.name == name and flag.value.lower() != "false" for flag in flags)
