"""What a Dockerfile builds from: the images its stages refer to, and the same file with those images pinned.

Theory of operation. `parse` finds the stages and every word that names an image or a stage: of FROM, `COPY --from` and
`RUN --mount=from`. `plan_bases` expands them for one platform and keeps those that are images and that the wanted
stage needs; BuildKit prunes the other stages, so what they refer to does not matter. `pin` writes other names in the
place of those words.

Source: moby/buildkit `frontend/dockerfile/dockerfile2llb/convert.go`. What ONBUILD triggers refer to is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from coordinator.domain.dockerfile.expansion import Expanded, ExpansionError, expand
from coordinator.domain.dockerfile.instructions import wrong
from coordinator.domain.dockerfile.pinning import held_name, pin
from coordinator.domain.dockerfile.remote_sources import Scope, network_reasons
from coordinator.domain.dockerfile.stages import Dockerfile, ImageWord, Place, Stage, find_stage, parse, stage_named
from coordinator.domain.image import platforms, references
from coordinator.domain.image.platforms import Platform
from coordinator.errors import UsageError

__all__ = ["BaseUse", "Dockerfile", "held_name", "network_inputs", "parse", "pin", "plan_bases", "scoped_chains"]

_SCRATCH = "scratch"
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")
_INDEX = re.compile(r"[+-]?\d+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUse:
    """One place that refers to an image. `text` is the image, expanded; `platform` the one it is wanted for.

    `position` names the place for `pin`; `written` is what stands there.
    """

    text: str
    platform: Platform
    line: int
    position: int
    written: str


@dataclass(frozen=True, slots=True)
class _Base:
    """What a FROM means: `stage` is the earlier stage it goes on from, where it is one."""

    text: str
    stage: Stage | None
    platform: Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A Dockerfile expanded for one platform; `bases` and `stages` have the same order."""

    dockerfile: Dockerfile
    values: Mapping[str, str]
    bases: tuple[_Base, ...]
    needed: tuple[Stage, ...]


def plan_bases(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
) -> tuple[BaseUse, ...]:
    """Every use of an image by the stages that `stage` (the last one, if empty) needs, in the order of the file.

    The image of a FROM is wanted for its `--platform`, or the target's; images of `COPY --from` and of mounts are
    always wanted for the target's. Raises UsageError with path and line where a build would fail for it: a variable
    without a value, a wrong platform, reference or stage.
    """
    plan = _plan(dockerfile, stage, platform, build_platform, build_args)
    return tuple(sorted(_uses(plan, platform), key=lambda use: use.position))


def network_inputs(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
) -> tuple[str, ...]:
    """Why the same inputs may give another result, a sentence each: what `ADD` fetches without saying what it gets.

    That is a URL without `--checksum` and a Git repository without a commit, in the stages that `stage` needs.
    """
    chains = scoped_chains(
        dockerfile, stage=stage, platform=platform, build_platform=build_platform, build_args=build_args
    )
    return tuple(
        f"{dockerfile.path}:{line}: {why}" for chain, scope in chains for line, why in network_reasons(chain, scope)
    )


def scoped_chains(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
) -> tuple[tuple[tuple[Stage, ...], Scope], ...]:
    """The stages that `stage` needs, in the order of the file: each behind those it goes on from, with its scope."""
    plan = _plan(dockerfile, stage, platform, build_platform, build_args)
    scope = Scope(plan.values, build_args, dockerfile.escape)
    return tuple((_chain(plan, needed), scope) for needed in sorted(plan.needed, key=lambda needed: needed.index))


def _plan(
    dockerfile: Dockerfile, stage: str, platform: Platform, build_platform: Platform, build_args: Mapping[str, str]
) -> _Plan:
    target = find_stage(dockerfile, stage)
    values = _global_values(dockerfile, target, platform, build_platform, build_args)
    bases: list[_Base] = []
    named: dict[str, Stage] = {}
    for candidate in dockerfile.stages:
        text = _base_text(dockerfile, candidate, values)
        wanted = _wanted(dockerfile, candidate, values, platform, build_platform)
        bases.append(_Base(text, named.get(text), wanted))
        if candidate.name:
            named[candidate.name] = candidate
    needed = _needed(dockerfile, tuple(bases), target)
    return _Plan(dockerfile=dockerfile, values=values, bases=tuple(bases), needed=needed)


def _uses(plan: _Plan, target: Platform) -> Iterator[BaseUse]:
    for stage in plan.needed:
        base = plan.bases[stage.index]
        if base.stage is None and base.text != _SCRATCH:
            yield _use(plan, stage.base, base.text, base.platform)
        for word in stage.sources:
            if _source(plan.dockerfile, stage, word) is None and word.written != _SCRATCH:
                yield _use(plan, word, word.written, target)


def _use(plan: _Plan, word: ImageWord, text: str, platform: Platform) -> BaseUse:
    try:
        references.parse(text)
    except UsageError as error:
        raise wrong(
            plan.dockerfile.path, word.line, error.message, _reference_hint(plan, word, text, error.hint)
        ) from error
    return BaseUse(text=text, platform=platform, line=word.line, position=word.position, written=word.written)


def _reference_hint(plan: _Plan, word: ImageWord, text: str, otherwise: str) -> str:
    unset = [name for name in _VARIABLE.findall(word.written) if not plan.values.get(name)]
    if word.place is Place.FROM and unset:
        return _value_hint(plan.dockerfile, unset[0], plan.values)
    if word.place is Place.FROM and stage_named(plan.dockerfile, text) is not None:
        # `COPY --from` ignores the case of a stage's name, FROM does not.
        return f"FROM finds a stage only by its name in lower case: FROM {text.lower()}"
    return otherwise


def _needed(dockerfile: Dockerfile, bases: tuple[_Base, ...], target: Stage) -> tuple[Stage, ...]:
    found: dict[int, Stage] = {}
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        if stage.index in found:
            continue
        found[stage.index] = stage
        sources = (_source(dockerfile, stage, word) for word in stage.sources)
        waiting += [source for source in (bases[stage.index].stage, *sources) if source is not None]
    return tuple(found.values())


def _source(dockerfile: Dockerfile, stage: Stage, word: ImageWord) -> Stage | None:
    """The stage a `--from` names; `None` where it names an image."""
    if "$" in word.written:
        hint = f"name a stage in its place: FROM {word.written} AS source, before this one"
        raise wrong(dockerfile.path, word.line, f"{word.place} takes no variable: {word.written}", hint)
    if word.place is Place.COPY and _INDEX.match(word.written):
        index = int(word.written)
        if not 0 <= index < len(dockerfile.stages):
            hint = f"there are {len(dockerfile.stages)} stages, and the first is 0"
            raise wrong(dockerfile.path, word.line, f"there is no stage {index}", hint)
        found: Stage | None = dockerfile.stages[index]
    else:
        found = stage_named(dockerfile, word.written)
    if found is not None and found.index >= stage.index:
        hint = "a stage can take from the stages above it alone"
        raise wrong(dockerfile.path, word.line, f"stage '{word.written}' is not above this one", hint)
    return found


def _base_text(dockerfile: Dockerfile, stage: Stage, values: Mapping[str, str]) -> str:
    expanded = _expanded(dockerfile, stage.line, stage.base.written, values)
    if not expanded.text:
        raise _empty(dockerfile, stage.line, f"FROM {stage.base.written} names no image", stage.base.written, values)
    return expanded.text


def _wanted(
    dockerfile: Dockerfile, stage: Stage, values: Mapping[str, str], platform: Platform, build_platform: Platform
) -> Platform:
    if not stage.platform:
        return platform
    text = _expanded(dockerfile, stage.line, stage.platform, values).text
    if not text:
        message = f"--platform={stage.platform} is empty"
        raise _empty(dockerfile, stage.line, message, stage.platform, values)
    # One word is an operating system or an architecture; the engine's own stands for the other.
    if text.lower() == "linux":
        return build_platform
    known = {str(platform): platform, str(build_platform): build_platform}
    # The build platform may be a stand-in, whose words mean nothing to anybody else.
    known |= {f"linux/{build_platform.architecture}": build_platform} if build_platform.os != "linux" else {}
    try:
        return known.get(text) or platforms.parse(text if "/" in text else f"linux/{text}")
    except UsageError as error:
        unset = [name for name in _VARIABLE.findall(stage.platform) if not values.get(name)]
        message = f"--platform={stage.platform} is no platform: '{text}'"
        hint = _value_hint(dockerfile, unset[0], values) if unset else error.hint
        raise wrong(dockerfile.path, stage.line, message, hint) from error


def _global_values(
    dockerfile: Dockerfile, target: Stage, platform: Platform, build_platform: Platform, build_args: Mapping[str, str]
) -> dict[str, str]:
    """What a variable in a FROM can be: the platform arguments, and every ARG before the first FROM."""
    values = {"TARGETSTAGE": target.name or "default"}
    for prefix, of in (("BUILD", build_platform), ("TARGET", platform)):
        values |= {
            f"{prefix}PLATFORM": str(of),
            f"{prefix}OS": of.os,
            f"{prefix}OSVERSION": "",
            f"{prefix}ARCH": of.architecture,
            f"{prefix}VARIANT": of.variant,
        }
    values |= {name: build_args[name] for name in values if name in build_args}
    for argument in dockerfile.arguments:
        if argument.name in build_args:
            values[argument.name] = build_args[argument.name]
        elif argument.default is not None:
            values[argument.name] = _expanded(dockerfile, argument.line, argument.default, values).text
    return values


def _expanded(dockerfile: Dockerfile, line: int, word: str, values: Mapping[str, str]) -> Expanded:
    try:
        return expand(word, values, dockerfile.escape)
    except ExpansionError as error:
        names = _VARIABLE.findall(word)
        hint = _value_hint(dockerfile, names[0], values) if names else "quotes come in pairs"
        raise wrong(dockerfile.path, line, f"'{word}' cannot be expanded: {error}", hint) from error


def _empty(dockerfile: Dockerfile, line: int, message: str, word: str, values: Mapping[str, str]) -> UsageError:
    names = [name for name in _VARIABLE.findall(word) if not values.get(name)]
    why = f": {' and '.join(names)} has no value" if names else ""
    hint = _value_hint(dockerfile, names[0], values) if names else "name an image, or scratch"
    return wrong(dockerfile.path, line, message + why, hint)


def _value_hint(dockerfile: Dockerfile, name: str, values: Mapping[str, str]) -> str:
    if any(argument.name == name for argument in dockerfile.arguments):
        return f"--build-arg {name}=…, or a default: ARG {name}=…"
    close = get_close_matches(name, list(values), n=1, cutoff=0.8)
    meant = f"did you mean ${close[0]}? else " if close else ""
    return f"{meant}declare it before the first FROM (ARG {name}=…), then --build-arg {name}=… changes it"


def _chain(plan: _Plan, stage: Stage) -> tuple[Stage, ...]:
    """The stages this one goes on from, oldest first, and itself."""
    chain = [stage]
    while (below := plan.bases[chain[0].index].stage) is not None:
        chain.insert(0, below)
    return tuple(chain)
