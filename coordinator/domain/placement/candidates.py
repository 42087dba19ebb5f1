"""The hosts that may take the jobs of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.schedule import Candidate

if TYPE_CHECKING:
    from coordinator.domain.hosts.facts import Builder
    from coordinator.domain.placement.plan import Row


@dataclass(frozen=True, slots=True)
class Candidates:
    """The hosts for each platform, best first, and the builder that each host's engine uses for it.

    `rows` are those of the plan that they come from. All are empty where a run needs no host.
    """

    by_platform: Mapping[Platform, Sequence[Candidate]] = field(default_factory=dict)
    builders: Mapping[tuple[Platform, str], Builder] = field(default_factory=dict)
    rows: Sequence[Row] = ()
