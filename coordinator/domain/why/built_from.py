"""What a run was built from, as far as it is known afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.image.platforms import Platform
from coordinator.domain.inputs.build_id import ContextEntry
from coordinator.domain.placement.plan import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptInputs:
    """What is kept of a run's inputs beside the store's digests. `bases` are digests by platform and image, `plan` has
    the platforms that were to be built."""

    context: tuple[ContextEntry, ...] = field(repr=False)
    dockerfile: str = field(repr=False)
    dockerfile_path: str
    bases: Mapping[Platform, Mapping[str, str]] = field(default_factory=dict)
    unstable: tuple[str, ...] = ()
    plan: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a run was asked (`request`), what that was resolved to (`inputs`), and `kept`, which may be gone."""

    request: Mapping[str, object]
    inputs: Mapping[str, object]
    kept: KeptInputs | None = None
