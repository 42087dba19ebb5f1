"""Base images as their registries have them when a run begins: their digests, and the configs that a build depends on.

A base's config adds variables and ONBUILD instructions to a Dockerfile, and these may name further images. So the uses
of a Dockerfile are planned again with the configs known so far, until no image is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from coordinator.domain.causes import Cause
from coordinator.domain.closest import closest
from coordinator.domain.dockerfile.base_config import BaseConfig, read_base_config
from coordinator.domain.dockerfile.bases import BUILD_PLATFORM, BaseUse, Configs, Unread
from coordinator.domain.dockerfile.stages import Dockerfile, is_stage_name
from coordinator.domain.image import references
from coordinator.domain.image.descriptors import (
    MAX_MANIFEST_BYTES,
    Manifest,
    malformed,
    read_descriptor,
    read_json,
)
from coordinator.domain.image.index import IndexImages, runs_on
from coordinator.domain.image.platform_rewrite import RewrittenImage, rewrite_platform
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import Reference
from coordinator.errors import ArchloomError, LostError, UsageError
from coordinator.image.child import check_is_image
from coordinator.image.index_images import ContentSource, read_index
from coordinator.parallel import in_parallel
from coordinator.publish.registry_pool import Registries
from coordinator.run.inputs.content_cache import CachedContent, ContentCache

_REGISTRY_TIMEOUT_S = 20.0
_MOST_ROUNDS = 10
# Official images have 8 to 10 platforms. Each config costs one counted pull of Docker Hub, once per digest.
_MOST_BUILD_PLATFORMS = 12

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadImage:
    """The image manifest of one platform, and its config: as bytes, and as far as a build reads it."""

    manifest: Manifest
    raw_config: bytes = field(repr=False)
    config: BaseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base image as the registry had it when the run began. `manifest` is an index, or a single image manifest.

    `images` are the images of the index, none for a single image. `read` are the images that were read, by digest.
    """

    reference: Reference
    manifest: Manifest
    images: IndexImages
    read: Mapping[str, ReadImage] = field(default_factory=dict)

    def for_platform(self, platform: Platform) -> str:
        """Return the digest of the image that a client on `platform` gets. Raises UsageError `base` without one.

        A single image manifest is the image for every platform, whatever its config says: as in BuildKit.
        """
        if not self.manifest.is_index:
            return self.manifest.digest
        image = self.images.resolve(platform)
        if image is None:
            available = ", ".join(map(str, self.images.platforms)) or "no image"
            raise UsageError(
                f"base image {self.reference} has no {platform}",
                hint=f"leave the platform out, or build from another base: this one has {available}."
                " To copy files of one of these, name a stage: FROM --platform=… AS …, and COPY --from that",
                code=Cause.BASE,
            )
        return image.digest

    def rewritten(self, platform: Platform) -> RewrittenImage | None:
        """Return the image for `platform` as an engine has to hold it where its config has another platform.

        `None` where the config has this platform, or one that runs on it, or was not read. Raises UsageError as
        `for_platform`.
        """
        image = self.read.get(self.for_platform(platform))
        if image is None or runs_on(image.config.platform, platform):
            return None
        return rewrite_platform(image.manifest, image.raw_config, platform)

    def digests(self, platform: Platform) -> tuple[str, ...]:
        """Return the digests of the images that may be used for `platform`. Raises UsageError as `for_platform`."""
        return self.for_hosts() if platform == BUILD_PLATFORM else (self.for_platform(platform),)

    def for_hosts(self) -> tuple[str, ...]:
        """Return the digests of all images that a host may get for `$BUILDPLATFORM`: those for Linux."""
        if not self.manifest.is_index:
            return (self.manifest.digest,)
        found = (image for image in (*self.images.listed, *self.images.unlisted) if image.platform)
        return tuple(dict.fromkeys(image.digest for image in found if image.platform and image.platform.os == "linux"))

    def config(self, platform: Platform) -> BaseConfig | None:
        """Return the config of the image for `platform`, `None` where it was not read.

        For BUILD_PLATFORM it is the config that all images for Linux have in common; `None` where two differ. Its
        platform is then the placeholder. Raises UsageError as `for_platform`.
        """
        if platform != BUILD_PLATFORM:
            image = self.read.get(self.for_platform(platform))
            return image.config if image else None
        digests = self.digests(platform)
        configs = [self.read[digest].config for digest in digests if digest in self.read]
        first = configs[0] if configs else None
        if first is None or len(configs) < len(digests):
            return None
        if any((other.environment, other.triggers) != (first.environment, first.triggers) for other in configs):
            return None
        return BaseConfig(platform=BUILD_PLATFORM, environment=first.environment, triggers=first.triggers)


def base_digest(use: BaseUse, base: Base) -> str:
    """Return the digest that stands for this use of a base in a build id."""
    # For a stage on BUILDPLATFORM, the digest of the index: the build id must not depend on the host that builds.
    return base.manifest.digest if use.platform == BUILD_PLATFORM else base.for_platform(use.platform)


Uses = Mapping[Platform, Sequence[BaseUse]]


def foreign_bases(uses: Uses, bases: Mapping[str, Base]) -> tuple[str, ...]:
    """Return a sentence for each image of another system or architecture that a stage builds on.

    That is no error: BuildKit builds on it (and warns, InvalidBaseImagePlatform), and it may hold no programs. A stage
    with that platform in its `FROM --platform` is not named.
    """
    found: dict[str, None] = {}
    for use in (use for platform_uses in uses.values() for use in platform_uses if use.is_from):
        base = bases.get(use.text)
        config = base.config(use.platform) if base is not None and use.platform != BUILD_PLATFORM else None
        own = config.platform if config is not None else use.platform
        if own.os != "unknown" and (own.os, own.architecture) != (use.platform.os, use.platform.architecture):
            found[
                f"line {use.line}: base image {use.text} is {own}, and is built on for {use.platform}: its programs"
                f" do not run there. If that is meant, write FROM --platform={own}"
            ] = None
    return tuple(found)


def unresolved(text: str, reason: str, dockerfile: Dockerfile, uses: Uses) -> str:
    """Return the sentence for an image that could not be resolved: also that a stage may have been meant."""
    use = next((use for platform_uses in uses.values() for use in platform_uses if use.text == text), None)
    stage = closest(text, (stage.name for stage in dockerfile.stages if stage.name)) if use else ""
    meant = f". Did you mean the stage {stage}?" if stage else ""
    if use is None or use.is_from or not is_stage_name(text):
        return f"{text} could not be resolved: {reason}{meant}"
    reference = references.parse(text)
    name = f"{reference.name}:{reference.target}"
    return (
        f"{dockerfile.path}:{use.line}: no stage is named {text}, so it is the image {name},"
        f" which could not be resolved: {reason}{meant}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedBases:
    """The bases of a run.

    `uses` are by target platform, `bases` by image name as in the Dockerfile, with build arguments expanded. A base
    that could not be resolved is not in `bases` but in `failures`, with the reason. A config that could not be read,
    or that differs between the platforms that BUILD_PLATFORM stands for, is not in `configs`; it is in `unread`, with
    the reason, where a stage builds on it and its ONBUILD is not known.
    """

    uses: Uses
    bases: Mapping[str, Base]
    failures: Mapping[str, str]
    configs: Configs
    unread: Unread


async def resolve_bases(
    plan: Callable[[Configs], Uses],
    images: Iterable[str],
    registries: Registries,
    *,
    state: Path,
    earlier: Mapping[str, str] | None = None,
) -> ResolvedBases:
    """Resolve the images that `plan` names for the configs known so far, until it names no new one; and `images`.

    Of `images` only the digest is needed (the frontend). Everything is asked for in parallel, each answer within 20 s.
    The config of an image that no stage builds on is read too where it costs no counted pull: it tells an image of
    another platform.
    What is named by digest is read once, then taken from `state`. `earlier` are the digests that an earlier
    coordinator resolved for the same run: the bases keep them, and a registry that does not answer is an error.

    Raises UsageError: `base` for an image without the platform, or where ONBUILD instructions never end to name new
    images; and what `plan` raises. Raises LostError and RegistryError with `earlier` only.
    """
    reader = _Reader(registries, ContentCache(state), earlier)
    others = tuple(images)
    chain: list[str] = []
    asked: set[_Wanted] = set()
    for round_ in range(_MOST_ROUNDS):
        uses = plan(reader.configs(asked))
        wanted = {_Wanted(use.text, use.platform, use.is_from) for found in uses.values() for use in found}
        new = wanted - asked
        if round_ and not new:
            return ResolvedBases(
                uses=uses,
                bases=reader.bases,
                failures=reader.failures,
                configs=reader.configs(wanted),
                unread=reader.unread(wanted),
            )
        await reader.read(new, others)
        asked |= wanted
        chain += sorted({image.text for image in new})[:1]
    raise UsageError(
        f"the ONBUILD instructions of base images name new images without end: {' → '.join(chain)}",
        hint="build from another base image",
        code=Cause.BASE,
    )


class _Wanted(NamedTuple):
    """An image, the platform that it is resolved for, and whether a stage builds on it."""

    text: str
    platform: Platform
    is_from: bool


class _Reader:
    def __init__(self, registries: Registries, cache: ContentCache, earlier: Mapping[str, str] | None) -> None:
        self._registries = registries
        self._cache = cache
        self._earlier = earlier
        self.bases: dict[str, Base] = {}
        self.failures: dict[str, str] = {}
        self._read: dict[str, dict[str, ReadImage]] = {}
        self._unread: dict[tuple[str, str], str] = {}

    async def _resolve(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self.bases and text not in self.failures]
        for text, found in zip(new, await in_parallel(*map(self._resolved, new)), strict=True):
            if isinstance(found, str):
                self.failures[text] = found
            else:
                self.bases[text] = found

    async def read(self, wanted: Collection[_Wanted], others: Iterable[str]) -> None:
        """Resolve these images and the others, and read the configs of these where that is possible."""
        await self._resolve((*(image.text for image in wanted), *others))
        images = {(image.text, digest) for image in wanted for digest in self._digests(image)}
        await in_parallel(*(self._keep(text, digest) for text, digest in images))

    def configs(self, asked: Iterable[_Wanted]) -> dict[tuple[str, Platform], BaseConfig]:
        found = {(image.text, image.platform): self.bases.get(image.text) for image in asked}
        configs = {key: base.config(key[1]) for key, base in found.items() if base is not None}
        return {key: config for key, config in configs.items() if config is not None}

    def unread(self, wanted: Iterable[_Wanted]) -> dict[tuple[str, Platform], str]:
        """Return why the ONBUILD of resolved images that a stage builds on is not known. `read` must have had them."""
        bases = {(image.text, image.platform): self.bases.get(image.text) for image in wanted if image.is_from}
        reasons = {key: self._why_unread(*key, base) for key, base in bases.items() if base is not None}
        return {key: reason for key, reason in reasons.items() if reason}

    def _why_unread(self, text: str, platform: Platform, base: Base) -> str:
        if base.config(platform) is not None:
            return ""
        digests = base.digests(platform)
        if len(digests) > _MOST_BUILD_PLATFORMS:
            return f"it has {len(digests)} images for Linux, and at most {_MOST_BUILD_PLATFORMS} are read"
        lacking = [digest for digest in digests if digest not in base.read]
        if lacking:
            return self._unread[text, lacking[0]]
        # Variables alone may differ: of golang they do, and the host's job reads its own.
        triggers = {base.read[digest].config.triggers for digest in digests}
        return "it has ONBUILD, and its images for Linux differ" if any(triggers) else ""

    def _digests(self, image: _Wanted) -> tuple[str, ...]:
        """Return the digests of the images to read. Raises UsageError where the base has none for the platform."""
        base = self.bases.get(image.text)
        if base is None:
            return ()
        digests = base.digests(image.platform)
        # Docker Hub counts every GET of an image manifest as a pull; of a single image the manifest is here already.
        counted = base.manifest.is_index and base.reference.registry == references.HUB
        is_needed = image.is_from or not counted
        return digests if is_needed and len(digests) <= _MOST_BUILD_PLATFORMS else ()

    async def _resolved(self, text: str) -> Base | str:
        """Return the base, or the reason why it cannot be resolved."""
        reference = references.parse(text)
        if self._earlier is None:
            target = reference.target
        elif text in self._earlier:
            target = self._earlier[text]
        else:
            return "it could not be resolved when this run began"
        return await self._answer(reference.registry, self._base(text, reference, target))

    async def _base(self, text: str, reference: Reference, target: str) -> Base:
        registry = await self._registries.registry(reference.registry)
        source = CachedContent(registry, self._cache)
        # Also a digest is asked for: what its registry has deleted cannot be pulled.
        descriptor = await registry.head_manifest(reference.repository, target)
        if descriptor is None:
            manifest = await registry.get_manifest(reference.repository, target)
        else:
            manifest = await source.get_manifest(reference.repository, descriptor.digest)
        single = IndexImages(listed=())
        images = await read_index(source, reference.repository, manifest) if manifest.is_index else single
        read = self._read.setdefault(text, {})
        return Base(reference=reference, manifest=manifest, images=images, read=read)

    async def _keep(self, text: str, digest: str) -> None:
        reference = self.bases[text].reference
        image = await self._answer(reference.registry, self._image(reference, digest))
        if isinstance(image, ReadImage):
            self._read[text][digest] = image
        else:
            self._unread[text, digest] = image

    async def _image(self, reference: Reference, digest: str) -> ReadImage:
        source = CachedContent(await self._registries.registry(reference.registry), self._cache)
        return await read_image(source, reference, digest)

    async def _answer(self, registry: str, question: Awaitable[T]) -> T | str:
        """Return the answer, or the reason why there is none. With `earlier`, a temporary failure is an error."""
        try:
            async with asyncio.timeout(_REGISTRY_TIMEOUT_S):
                return await question
        except TimeoutError:
            message = f"{registry} did not answer in {_REGISTRY_TIMEOUT_S:.0f} s"
            if self._earlier is not None:
                raise LostError(message, hint="is it running?", code=Cause.UNREACHABLE) from None
            return message
        except ArchloomError as error:
            if error.code == Cause.BASE:
                # No engine can build on it.
                raise
            # The run began with this content: only these prove that it is unusable, other errors may be temporary.
            if self._earlier is not None and error.code not in (Cause.NOT_FOUND, Cause.MALFORMED):
                raise
            return error.message


async def read_image(source: ContentSource, reference: Reference, digest: str) -> ReadImage:
    """Return the image with this digest. Raises UsageError `base` for an artifact, RegistryError `malformed`, or the
    source's errors."""
    name = str(reference.with_digest(digest))
    manifest = await source.get_manifest(reference.repository, digest)
    if manifest.is_index:
        raise malformed(name, "it is listed as an image, and is an index")
    config = read_descriptor(read_json(manifest.raw, name).get("config"), name)
    raw = await source.get_blob(reference.repository, config.digest, MAX_MANIFEST_BYTES)
    check_is_image(manifest, raw, name)
    return ReadImage(manifest=manifest, raw_config=raw, config=read_base_config(raw, f"the config of {name}"))
