"""The children that this coordinator verified, so that they are found again where a registry has no tag for them."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.inputs.pins import KnownChild
from coordinator.store.database import Database

# A child that was neither built nor reused for this long is forgotten: where no tag leads to it, it is built again.
_RETENTION_S = 365 * 86400.0


class Children:
    """The verified children in one store. `clock` gives epoch seconds."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock

    def known(self, repository: str, build_id: str, platform: Platform) -> tuple[KnownChild, ...]:
        """Return the children of this build id that were verified in this repository (`registry/repository`)."""
        found = self._db.all("pins_of", repository=repository, build_id=build_id, platform=str(platform))
        return tuple(KnownChild(Mode(row["mode"]), row["digest"], row["tag"]) for row in found)

    def record(self, repository: str, build_id: str, platform: Platform, child: KnownChild) -> None:
        """Store a verified child in place of an earlier one of the same mode, also at each reuse: unused ones go."""
        with self._db.change():
            self._db.do("forget_pins", before=self._clock() - _RETENTION_S)
            self._db.do(
                "record_pin",
                repository=repository,
                build_id=build_id,
                platform=str(platform),
                mode=child.mode,
                digest=child.digest,
                tag=child.tag,
                at=self._clock(),
            )
