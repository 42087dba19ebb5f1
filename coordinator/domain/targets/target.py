"""One image to build, as the user asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.references import Reference


class Emulate(StrEnum):
    """`auto`: where no board can; `never`: not at all; `only`: emulators alone."""

    AUTO = "auto"
    NEVER = "never"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`context` is an absolute folder; `dockerfile` an absolute path; `tags` has at least one, each with a tag.

    `volatile` names build arguments and labels whose values are no reason to build again.
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
        """The repositories of the tags, each once, the first tag's first: boards push there."""
        return tuple(dict.fromkeys(Reference(tag.registry, tag.repository) for tag in self.tags))
