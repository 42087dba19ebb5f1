"""A target: one image to build, as the user requested it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import Reference


class Emulate(StrEnum):
    """When a job may be emulated. `auto`: where no board can run it; `never`; `only`: emulators alone build."""

    AUTO = "auto"
    NEVER = "never"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`context` and `dockerfile` are absolute paths; `tags` has at least one reference, each with a tag.

    `volatile` names build arguments and labels whose changed values are no reason to rebuild.
    """

    name: str
    context: str
    dockerfile: str
    tags: tuple[Reference, ...]
    platforms: tuple[Platform, ...]
    stage: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    volatile: tuple[str, ...] = ()
    no_cache: bool = False
    pull: bool = False

    @property
    def repositories(self) -> tuple[Reference, ...]:
        """The repositories of the tags, without duplicates. Boards push to the first, that of the first tag."""
        return tuple(dict.fromkeys(Reference(tag.registry, tag.repository) for tag in self.tags))
