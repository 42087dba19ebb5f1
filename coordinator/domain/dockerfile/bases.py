"""The images that a Dockerfile's stages build from, and the same Dockerfile with those images pinned.

`parse` finds the stages and every word that names an image or a stage, in FROM, `COPY --from` and `RUN --mount=from`.
`plan_bases` expands these words for one platform and keeps the images that the requested stage needs; BuildKit prunes
all other stages, so their images do not matter. `pin` replaces the words by other names.

ONBUILD of a base counts as if its instructions stood after FROM: that of stages always, that of an image where its
configuration is given. It may name more images; plan again with their configurations until no image is new.

Source: moby/buildkit `frontend/dockerfile/dockerfile2llb/convert.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coordinator.domain.closest import closest
from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.expansion import Expanded, ExpansionError, expand
from coordinator.domain.dockerfile.instructions import wrong
from coordinator.domain.dockerfile.onbuild import image_triggers, stage_triggers, with_triggers
from coordinator.domain.dockerfile.remote_sources import network_reasons
from coordinator.domain.dockerfile.scopes import Scope
from coordinator.domain.dockerfile.stages import Dockerfile, ImageWord, Place, Stage, find_stage, stage_named
from coordinator.domain.image import platforms, references
from coordinator.domain.image.platforms import Platform
from coordinator.errors import UsageError

# The configurations of base images by name, with variables expanded, and the platform they were resolved for.
Configs = Mapping[tuple[str, Platform], BaseConfig]

# Why a base image's configuration is not in Configs, where that leaves its ONBUILD unknown; by the same keys.
Unread = Mapping[tuple[str, Platform], str]

# A placeholder for BUILDPLATFORM, the platform of the host that builds: the build id must not depend on it, and the
# host's job gets the real one.
BUILD_PLATFORM = Platform("host", "any")

_UNKNOWN: Configs = MappingProxyType({})
_NONE_UNREAD: Unread = MappingProxyType({})
_SCRATCH = "scratch"
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")
_INDEX = re.compile(r"[+-]?\d+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUse:
    """One use of an image. `text` is its expanded name; `platform` is the platform that it is resolved for.

    `position` identifies the use for `pin`; `written` is the unexpanded word. `is_from` tells whether a stage builds on
    the image, so that its configuration counts. `onbuild_of` is the image whose ONBUILD names this one, which stands
    nowhere in the file: `position` is None, and nothing can be pinned.
    """

    text: str
    platform: Platform
    line: int
    position: int | None
    written: str
    is_from: bool = False
    onbuild_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChain:
    """A stage that a build needs. `stages` are those it builds on, oldest first, then itself, each with its ONBUILD.

    `base` is the image that the oldest stage builds on, empty for `scratch`; `platform` is that image's. `is_known` is
    False where its configuration is not given: its variables and its ONBUILD are then missing.
    """

    stages: tuple[Stage, ...]
    scope: Scope
    base: str
    platform: Platform
    is_known: bool


@dataclass(frozen=True, slots=True)
class _Base:
    """An expanded FROM. `stage` is the earlier stage that it builds on, `None` for an image."""

    text: str
    stage: Stage | None
    platform: Platform
    config: BaseConfig | None

    @property
    def is_image(self) -> bool:
        return self.stage is None and self.text != _SCRATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A Dockerfile expanded for one platform. `bases` is parallel to `dockerfile.stages`; `needed` is by index.

    The needed stages have the instructions of their base's ONBUILD.
    """

    dockerfile: Dockerfile
    values: Mapping[str, str]
    bases: tuple[_Base, ...]
    needed: Mapping[int, Stage]


def plan_bases(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
    configs: Configs = _UNKNOWN,
) -> tuple[BaseUse, ...]:
    """Return every use of an image by the stages that `stage` (the last one, if empty) needs, in file order.

    The image of a FROM is resolved for its `--platform`, else for the target platform; images of `COPY --from` and of
    mounts always for the target platform. Raises UsageError with path and line where the build would fail: a variable
    without a value, an invalid platform, reference or stage.
    """
    plan = _plan(dockerfile, stage, platform, build_platform, build_args, configs)
    # The ONBUILD of a stage counts once for each stage that builds on it, and stands once in the file.
    uses = dict.fromkeys(_uses(plan, platform))
    return tuple(sorted(uses, key=lambda use: (use.line, use.position is None, use.position or 0)))


def network_inputs(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
    configs: Configs = _UNKNOWN,
    unread: Unread = _NONE_UNREAD,
) -> tuple[str, ...]:
    """Return the reasons, a sentence each, why equal inputs may give another result, in the stages that `stage` needs.

    These are unpinned sources of `ADD`, which are URLs without `--checksum` and Git repositories without a commit;
    images that only the ONBUILD of another image names; and bases in `unread`, whose ONBUILD may hold either.
    """
    plan = _plan(dockerfile, stage, platform, build_platform, build_args, configs)
    chains = tuple(_chains(plan, build_args))
    reasons = [(line, reason) for chain in chains for line, reason in network_reasons(chain.stages, chain.scope)]
    reasons += dict.fromkeys(
        (chain.stages[0].line, f"the configuration of {chain.base} is not known: {unread[chain.base, chain.platform]}")
        for chain in chains
        if not chain.is_known and (chain.base, chain.platform) in unread
    )
    reasons += [
        (use.line, f"ONBUILD of {use.onbuild_of} names {use.text}: it cannot be pinned, nothing is reused")
        for use in dict.fromkeys(_uses(plan, platform))
        if use.onbuild_of
    ]
    return tuple(f"{dockerfile.path}:{line}: {reason}" for line, reason in reasons)


def scoped_chains(
    dockerfile: Dockerfile,
    *,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
    configs: Configs = _UNKNOWN,
) -> tuple[StageChain, ...]:
    """Return the stages that `stage` needs, in file order, each as the chain of stages it builds on, with its scope.

    Raises UsageError as `plan_bases` does.
    """
    return tuple(_chains(_plan(dockerfile, stage, platform, build_platform, build_args, configs), build_args))


def _plan(
    dockerfile: Dockerfile,
    stage: str,
    platform: Platform,
    build_platform: Platform,
    build_args: Mapping[str, str],
    configs: Configs,
) -> _Plan:
    target = find_stage(dockerfile, stage)
    values = _global_values(dockerfile, target, platform, build_platform, build_args)
    bases: list[_Base] = []
    named: dict[str, Stage] = {}
    for candidate in dockerfile.stages:
        text = _base_text(dockerfile, candidate, values)
        base_platform = _base_platform(dockerfile, candidate, values, platform, build_platform)
        bases.append(_Base(text, named.get(text), base_platform, configs.get((text, base_platform))))
        if candidate.name:
            named[candidate.name] = candidate
    needed = _needed(dockerfile, tuple(bases), target)
    return _Plan(dockerfile=dockerfile, values=values, bases=tuple(bases), needed=needed)


def _chains(plan: _Plan, build_args: Mapping[str, str]) -> Iterator[StageChain]:
    for index in sorted(plan.needed):
        stages = [plan.needed[index]]
        base = plan.bases[index]
        while base.stage is not None:
            stages.insert(0, plan.needed[base.stage.index])
            base = plan.bases[base.stage.index]
        environment = base.config.environment if base.is_image and base.config else {}
        yield StageChain(
            stages=tuple(stages),
            scope=Scope(plan.values, build_args, plan.dockerfile.escape, environment),
            base=base.text if base.is_image else "",
            platform=base.platform,
            is_known=base.config is not None or not base.is_image,
        )


def _uses(plan: _Plan, target: Platform) -> Iterator[BaseUse]:
    for stage in plan.needed.values():
        base = plan.bases[stage.index]
        if base.is_image:
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
    return BaseUse(
        text=text,
        platform=platform,
        line=word.line,
        position=word.position,
        written=word.written,
        is_from=word.place is Place.FROM,
        onbuild_of=word.onbuild_of,
    )


def _reference_hint(plan: _Plan, word: ImageWord, text: str, otherwise: str) -> str:
    unset = [name for name in _VARIABLE.findall(word.written) if not plan.values.get(name)]
    if word.place is Place.FROM and unset:
        return _value_hint(plan.dockerfile, unset[0], plan.values)
    if word.place is Place.FROM and stage_named(plan.dockerfile, text) is not None:
        # `COPY --from` matches stage names case-insensitively, FROM does not.
        return f"FROM finds a stage only by its name in lower case: FROM {text.lower()}"
    return otherwise


def _needed(dockerfile: Dockerfile, bases: tuple[_Base, ...], target: Stage) -> dict[int, Stage]:
    needed: dict[int, Stage] = {}
    pending = [target]
    while pending:
        stage = pending.pop()
        if stage.index in needed:
            continue
        stage = _with_onbuild(dockerfile, stage, bases[stage.index])
        needed[stage.index] = stage
        sources = (_source(dockerfile, stage, word) for word in stage.sources)
        pending += [source for source in (bases[stage.index].stage, *sources) if source is not None]
    return needed


def _with_onbuild(dockerfile: Dockerfile, stage: Stage, base: _Base) -> Stage:
    if base.stage is not None:
        return with_triggers(stage, stage_triggers(base.stage))
    if base.config is not None and base.is_image:
        return with_triggers(stage, image_triggers(base.text, base.config, stage.line, dockerfile.path))
    return stage


def _source(dockerfile: Dockerfile, stage: Stage, word: ImageWord) -> Stage | None:
    """Return the stage that a `--from` names, `None` where it names an image."""
    if "$" in word.written:
        hint = f"name a stage instead: FROM {word.written} AS source, before this one"
        raise wrong(dockerfile.path, word.line, f"{word.place} does not expand variables: {word.written}", hint)
    if word.place is Place.COPY and _INDEX.match(word.written):
        index = int(word.written)
        if not 0 <= index < len(dockerfile.stages):
            hint = f"there are {len(dockerfile.stages)} stages, and the first is 0"
            raise wrong(dockerfile.path, word.line, f"there is no stage {index}", hint)
        source: Stage | None = dockerfile.stages[index]
    else:
        source = stage_named(dockerfile, word.written)
    # BuildKit looks for circles before it adds ONBUILD, so that one of an image may copy from the stage it stands in.
    if source is not None and source.index >= stage.index + bool(word.onbuild_of):
        hint = "use a stage above this one"
        raise wrong(dockerfile.path, word.line, f"stage '{word.written}' is not above this one", hint)
    return source


def _base_text(dockerfile: Dockerfile, stage: Stage, values: Mapping[str, str]) -> str:
    expanded = _expanded(dockerfile, stage.line, stage.base.written, values)
    if not expanded.text:
        raise _empty(dockerfile, stage.line, f"FROM {stage.base.written} names no image", stage.base.written, values)
    return expanded.text


def _base_platform(
    dockerfile: Dockerfile, stage: Stage, values: Mapping[str, str], platform: Platform, build_platform: Platform
) -> Platform:
    if not stage.platform:
        return platform
    text = _expanded(dockerfile, stage.line, stage.platform, values).text
    if not text:
        message = f"--platform={stage.platform} is empty"
        raise _empty(dockerfile, stage.line, message, stage.platform, values)
    # A single word is an operating system or an architecture; the engine's platform supplies the other part.
    if text.lower() == "linux":
        return build_platform
    known = {str(platform): platform, str(build_platform): build_platform}
    # The build platform may be a placeholder, whose OS and architecture `platforms.parse` does not know.
    known |= {f"linux/{build_platform.architecture}": build_platform} if build_platform.os != "linux" else {}
    try:
        return known.get(text) or platforms.parse(text if "/" in text else f"linux/{text}")
    except UsageError as error:
        unset = [name for name in _VARIABLE.findall(stage.platform) if not values.get(name)]
        message = f"--platform={stage.platform} is not a platform: '{text}'"
        hint = _value_hint(dockerfile, unset[0], values) if unset else error.hint
        raise wrong(dockerfile.path, stage.line, message, hint) from error


def _global_values(
    dockerfile: Dockerfile, target: Stage, platform: Platform, build_platform: Platform, build_args: Mapping[str, str]
) -> dict[str, str]:
    """Return the values of variables in FROM: the platform arguments, and every ARG before the first FROM."""
    values = {"TARGETSTAGE": target.name or "default"}
    for prefix, value in (("BUILD", build_platform), ("TARGET", platform)):
        values |= {
            f"{prefix}PLATFORM": str(value),
            f"{prefix}OS": value.os,
            f"{prefix}OSVERSION": "",
            f"{prefix}ARCH": value.architecture,
            f"{prefix}VARIANT": value.variant,
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
        hint = _value_hint(dockerfile, names[0], values) if names else "close the quote"
        raise wrong(dockerfile.path, line, f"'{word}' cannot be expanded: {error}", hint) from error


def _empty(dockerfile: Dockerfile, line: int, message: str, word: str, values: Mapping[str, str]) -> UsageError:
    names = [name for name in _VARIABLE.findall(word) if not values.get(name)]
    reason = f": {' and '.join(names)} has no value" if names else ""
    hint = _value_hint(dockerfile, names[0], values) if names else "name an image, or scratch"
    return wrong(dockerfile.path, line, message + reason, hint)


def _value_hint(dockerfile: Dockerfile, name: str, values: Mapping[str, str]) -> str:
    if any(argument.name == name for argument in dockerfile.arguments):
        return f"--build-arg {name}=…, or a default: ARG {name}=…"
    close = closest(name, values)
    meant = f"did you mean ${close}? else " if close else ""
    return f"{meant}declare it before the first FROM (ARG {name}=…), then --build-arg {name}=… changes it"
