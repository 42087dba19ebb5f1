"""Gather the inputs of a run, once for all its platforms: Dockerfile, context, bases by digest, build ids."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.domain.dockerfile.bases import (
    BUILD_PLATFORM,
    BaseUse,
    Configs,
    Unread,
    network_inputs,
    plan_bases,
    scoped_chains,
)
from coordinator.domain.dockerfile.context_sources import ContextUse, context_use, names_build_platform
from coordinator.domain.dockerfile.secret_mounts import SecretMount, check_secret_mounts, secret_mounts
from coordinator.domain.dockerfile.stages import Dockerfile, declared, parse
from coordinator.domain.dockerfile.syntax import effective_syntax
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.platforms import parse as platform_of
from coordinator.domain.inputs.build_id import BuildInputs, build_id, counted, without_proxies
from coordinator.domain.run.events import Emit, Notice
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Target
from coordinator.domain.visible import visible_name
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.publish.registry_pool import Registries
from coordinator.regular_files import read_file
from coordinator.run.inputs.base_images import Base, base_digest, foreign_bases, resolve_bases, unresolved
from coordinator.run.inputs.taken_context import TakenContext, take_contexts

_NO_CACHE = "--no-cache was given"
_MAX_NAMED_PATHS = 3
# Hosts that differ in everything that a Dockerfile can read of the platform that builds.
_HOST_PLATFORMS = tuple(
    map(platform_of, ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/riscv64"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of a run. `bases` are by image name as in the Dockerfile, with build arguments expanded.

    `frontend` is the image that reads the Dockerfile, empty for the engine's own. A base that could not be resolved is
    not in `bases`: the engine resolves it. `unstable` are the reasons why no child may be reused; `nonce` then makes
    the build ids unique to this run.
    """

    dockerfile: Dockerfile
    dockerfile_path: str
    frontend: str
    contexts: Mapping[Platform, TakenContext]
    uses: Mapping[Platform, Sequence[BaseUse]]
    bases: Mapping[str, Base]
    unstable: tuple[str, ...]
    nonce: str
    build_ids: Mapping[Platform, str]

    def to_json(self) -> dict[str, object]:
        """Return what `gather` takes as `earlier`, so that a later coordinator gathers the same or detects a change."""
        return {
            "contexts": {str(platform): context.digest for platform, context in self.contexts.items()},
            "dockerfile": _text_digest(self.dockerfile),
            "bases": {text: base.manifest.digest for text, base in self.bases.items()},
            "nonce": self.nonce,
        }

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know of these inputs, a text each."""
        skipped = sorted({path for context in self.contexts.values() for path in context.manifest.skipped})
        return (
            *(f"nothing is reused: {reason}" for reason in self.unstable),
            *foreign_bases(self.uses, self.bases),
            *([f"left out, not files or folders: {_listed(skipped)}"] if skipped else []),
        )

    def changed_since(self, earlier: Earlier, paths: Sequence[str]) -> str:
        """Return a text that names the changed inputs, or an empty one. `paths` are files known to have changed."""
        now = Earlier.from_json(self.to_json())
        changes: list[str] = []
        edited = now.dockerfile != earlier.dockerfile
        others = [path for path in paths if not (edited and path == self.dockerfile_path)]
        if edited:
            changes.append(f"{self.dockerfile.path} has changed")
        if now.contexts != earlier.contexts and (others or not paths):
            root = next(iter(self.contexts.values())).manifest.root
            changes.append(f"{_listed(others)} of the context {root} changed")
        changes += [f"base {text} is no longer in its registry" for text in earlier.bases if text not in now.bases]
        return " and ".join(changes)


@dataclass(frozen=True, slots=True)
class InputsGone:
    """The inputs of a run are no longer available; `reason` is the text for the user."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The inputs that an earlier coordinator gathered for the same request.

    `contexts` are digests by platform, as text; `bases` are digests by image name.
    """

    contexts: Mapping[str, str]
    dockerfile: str
    bases: Mapping[str, str]
    nonce: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Earlier:
        """Read what `Inputs.to_json` returned."""
        return cls(
            # Older versions stored one digest of the whole context, which no digest here equals.
            contexts=dict(data.get("contexts", {})),
            dockerfile=data["dockerfile"],
            bases=dict(data["bases"]),
            nonce=data["nonce"],
        )


def read_dockerfile(target: Target) -> Dockerfile:
    """Return the target's Dockerfile, parsed. Raises UsageError, with file and line, for what BuildKit rejects."""
    path = Path(target.dockerfile)
    try:
        text = read_file(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="give another one with -f FILE") from error
    return parse(text, visible_name(str(path)))


async def gather(
    request: BuildRequest, registries: Registries, env: Environment, emit: Emit, earlier: Earlier | None = None
) -> Inputs:
    """Read and resolve the inputs of the builds. Raises UsageError for what the user has to correct.

    `earlier` are the inputs gathered before for this request: the bases then keep those digests, whatever their tags
    point to now, and a registry that does not answer is an error.

    A base that cannot be resolved is not an error: the engine may have it. It makes the build ids unstable, because
    the next build may resolve it to another image.
    """
    target = request.target
    dockerfile = read_dockerfile(target)
    reading = _Reading(target, dockerfile)
    frontend = effective_syntax(dockerfile.text, target.build_args)
    resolved = await resolve_bases(
        lambda configs: {platform: reading.bases(platform, configs) for platform in target.platforms},
        [frontend.image] if frontend else [],
        registries,
        state=env.state,
        earlier=earlier.bases if earlier else None,
    )
    uses, bases, configs = resolved.uses, resolved.bases, resolved.configs
    if frontend is None or not frontend.is_foreign:
        for line in check_secret_mounts(reading.secret_mounts(configs), dockerfile.path):
            emit(Notice(line))
    contexts = await take_contexts(
        request, {platform: reading.context(platform, configs) for platform in target.platforms}, env, emit
    )
    unstable = (
        *(unresolved(text, reason, dockerfile, uses) for text, reason in resolved.failures.items()),
        *dict.fromkeys(
            reason for platform in target.platforms for reason in reading.network(platform, configs, resolved.unread)
        ),
        *((_NO_CACHE,) if target.no_cache else ()),
    )
    # What could not be read when the run began may be readable by now: its build ids stay those it began with.
    nonce = earlier.nonce if earlier else (secrets.token_hex(16) if unstable else "")
    return Inputs(
        dockerfile=dockerfile,
        dockerfile_path=_path_in_context(target),
        frontend=frontend.image if frontend else "",
        contexts=contexts,
        uses=uses,
        bases=bases,
        unstable=unstable,
        nonce=nonce,
        build_ids={
            platform: _build_id(
                target,
                dockerfile,
                contexts[platform],
                platform,
                bases=[base_digest(use, bases[use.text]) for use in uses[platform] if use.text in bases],
                frontend=bases[frontend.image].manifest.digest if frontend and frontend.image in bases else "",
                nonce=nonce,
            )
            for platform in target.platforms
        },
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """The Dockerfile as the target's builds read it, for each platform and with the configs of bases known so far."""

    target: Target
    dockerfile: Dockerfile

    def bases(self, platform: Platform, configs: Configs) -> tuple[BaseUse, ...]:
        return plan_bases(
            self.dockerfile,
            stage=self.target.stage,
            platform=platform,
            build_platform=BUILD_PLATFORM,
            build_args=self.target.build_args,
            configs=configs,
        )

    def secret_mounts(self, configs: Configs) -> tuple[SecretMount, ...]:
        """Return the mounts of all platforms."""
        return secret_mounts(
            chain
            for platform in self.target.platforms
            for chain in scoped_chains(
                self.dockerfile,
                stage=self.target.stage,
                platform=platform,
                build_platform=BUILD_PLATFORM,
                build_args=self.target.build_args,
                configs=configs,
            )
        )

    def network(self, platform: Platform, configs: Configs, unread: Unread) -> tuple[str, ...]:
        return network_inputs(
            self.dockerfile,
            stage=self.target.stage,
            platform=platform,
            build_platform=BUILD_PLATFORM,
            build_args=self.target.build_args,
            configs=configs,
            unread=unread,
        )

    def context(self, platform: Platform, configs: Configs) -> ContextUse:
        on_hosts = names_build_platform(self.dockerfile, configs)
        return context_use(
            self.dockerfile,
            stage=self.target.stage,
            platform=platform,
            build_platforms=_HOST_PLATFORMS if on_hosts else (BUILD_PLATFORM,),
            build_args=self.target.build_args,
            configs=configs,
        )


def _build_id(
    target: Target,
    dockerfile: Dockerfile,
    context: TakenContext,
    platform: Platform,
    *,
    bases: Sequence[str],
    frontend: str,
    nonce: str,
) -> str:
    return build_id(
        BuildInputs(
            context=context.digest,
            dockerfile=dockerfile.text,
            stage=target.stage,
            platform=platform,
            build_args=counted(without_proxies(target.build_args, declared(dockerfile)), target.volatile),
            labels=counted(target.labels, target.volatile),
            frontend=frontend,
            bases=tuple(bases),
            nonce=nonce,
        )
    )


def _listed(paths: Sequence[str]) -> str:
    named = ", ".join(map(visible_name, paths[:_MAX_NAMED_PATHS])) or "files"
    more = len(paths) - _MAX_NAMED_PATHS
    return f"{named} and {more} more" if more > 0 else named


def _text_digest(dockerfile: Dockerfile) -> str:
    return hashlib.sha256(dockerfile.text.encode("utf-8", "surrogateescape")).hexdigest()


def _path_in_context(target: Target) -> str:
    """Return the path of the Dockerfile in the context; its file name where it is outside of the context."""
    path, context = Path(target.dockerfile), Path(target.context)
    return path.relative_to(context).as_posix() if path.is_relative_to(context) else path.name
