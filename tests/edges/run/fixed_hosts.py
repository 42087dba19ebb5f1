"""Hosts of a run that a test sends away and brings back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.domain.image.platforms import Platform
from coordinator.domain.placement.schedule import Candidate


@dataclass
class FixedHosts:
    """`away` are those that do not answer, `long_away` and `awaited` those of them that the loop asks for.

    `silences` are what was marked of engines and disks.
    """

    candidates: Mapping[Platform, Sequence[Candidate]]
    slots: Mapping[str, int]
    builders: Mapping[object, object] = field(default_factory=dict)
    away: frozenset[str] = frozenset()
    long_away: frozenset[str] = frozenset()
    awaited: frozenset[str] = frozenset()
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    silences: list[bool] = field(default_factory=list)

    async def change(self) -> None:
        await self.changed.wait()
        self.changed.clear()

    def mark_silent(self, host: str, attempt_id: int, *, silent: bool) -> None:  # noqa: ARG002
        names = {host} if silent else set()
        if names != set(self.away):
            self.silences.append(silent)
            self.set(" ".join(names), " ".join(names))

    def set(self, away: str = "", long_away: str = "", awaited: str = "") -> None:
        """Send these hosts away, by names with spaces between; bring all others back."""
        self.away, self.long_away, self.awaited = (frozenset(names.split()) for names in (away, long_away, awaited))
        self.changed.set()
