"""What is taken of a context, asked in few words."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.context_sources import ContextUse, context_use
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.platforms import parse as platform_of

AMD64, ARM64 = platform_of("linux/amd64"), platform_of("linux/arm64")
PLAIN = BaseConfig(platform=ARM64)


def use(
    text: str,
    *,
    stage: str = "",
    hosts: tuple[Platform, ...] = (AMD64,),
    configs: Mapping[str, BaseConfig] | None = None,
    platform: Platform = ARM64,
    **args: str,
) -> ContextUse:
    known = {(name, of): config for name, config in (configs or {}).items() for of in {platform, *hosts, ARM64}}
    return context_use(
        parse(text), stage=stage, platform=platform, build_platforms=hosts, build_args=args, configs=known
    )


def paths(text: str, **options) -> list[str]:
    """The paths that are taken; patterns have their kind as prefix. Fails where the build takes everything."""
    found = use(text, **options)
    assert not found.everything
    return [f"{source.wildcard}:{source.path}" if source.wildcard else source.path for source in found.sources]


def of(lines: str, **options) -> list[str]:
    return paths(f"FROM scratch\n{lines}\n", **options)


def everything(lines: str, **options) -> str:
    found = use(f"FROM scratch\n{lines}\n", **options)
    assert not found.everything or all(source.required for source in found.sources)
    return found.everything
