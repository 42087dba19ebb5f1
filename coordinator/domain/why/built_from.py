"""The inputs of a run, as far as they are still known after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.image.platforms import Platform
from coordinator.domain.inputs.build_id import ContextEntry
from coordinator.domain.placement.plan import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptInputs:
    """What is kept of a run's inputs besides the digests in the store.

    `contexts` are what each platform's build takes of the context; `bases` are digests by platform and image; `plan`
    has the rows of the platforms that were to be built.
    """

    contexts: Mapping[Platform, tuple[ContextEntry, ...]] = field(repr=False)
    dockerfile: str = field(repr=False)
    dockerfile_path: str
    bases: Mapping[Platform, Mapping[str, str]] = field(default_factory=dict)
    unstable: tuple[str, ...] = ()
    plan: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltFrom:
    """A run's `request`, the `inputs` that it was resolved to, and `kept`, None where that was deleted."""

    request: Mapping[str, object]
    inputs: Mapping[str, object]
    kept: KeptInputs | None = None
