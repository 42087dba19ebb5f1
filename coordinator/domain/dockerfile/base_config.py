"""What the configuration of a base image adds to a Dockerfile: variables, and the instructions of its ONBUILD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.image.platforms import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """One image's configuration, as far as a build reads it.

    `platform` is the image's own, which may differ from the one it was resolved for. `environment` are its variables;
    `triggers` are its ONBUILD instructions, in order, as text without the word ONBUILD.
    """

    platform: Platform
    environment: Mapping[str, str] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()
