"""The last probe of each host, by name and address."""

from __future__ import annotations

import json
from collections.abc import Callable

from coordinator.domain.hosts.last_probe import LastProbe
from coordinator.store import rows
from coordinator.store.database import Database

# The facts of a host that was not probed for this long are deleted.
_RETENTION_S = 90 * 86400.0


class Probes:
    """The probes in one store. `clock` gives epoch seconds."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock

    def last(self) -> dict[tuple[str, str], LastProbe]:
        """Return the last probe of each host, by name and address."""
        return {(row["host"], row["address"]): rows.last_probe(row) for row in self._db.all("sightings")}

    def record(self, host: str, address: str, seen: LastProbe) -> None:
        """Store the observation of a host that answered, and delete an earlier failure to answer."""
        with self._db.change():
            self._db.do("forget_hosts", before=self._clock() - _RETENTION_S)
            self._db.do(
                "record_probe",
                host=host,
                address=address,
                seen_at=seen.seen_at,
                round_trip=seen.round_trip,
                machine=seen.machine,
                observation=json.dumps(seen.observation),
            )

    def record_silence(self, host: str, address: str, message: str, hint: str) -> None:
        """Store that the host did not answer at this address. Its last observation stays."""
        with self._db.change():
            values = {"host": host, "address": address, "at": self._clock()}
            self._db.do("record_silence", **values, message=message, hint=hint)
