"""A verified child as the store keeps it, with the fields that the index and the report use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.domain.image.descriptors import read_descriptor
from coordinator.domain.image.index import Child
from coordinator.domain.image.platforms import Mode, parse

_ERROR_SUBJECT = "a stored child"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChild:
    """A child and its job. `host` is empty for a reused child; `seconds` runs from the assignment to verification."""

    child: Child
    config_digest: str
    pin: str
    mode: Mode
    host: str = ""
    attempts: int = 0
    seconds: float = 0.0

    @property
    def digests(self) -> tuple[str, ...]:
        """The digest of the image manifest, then those of its attestations."""
        return (self.child.descriptor.digest, *(entry.digest for entry in self.child.attestations))

    def to_json(self) -> dict[str, object]:
        return {
            "platform": str(self.child.platform),
            "digest": self.child.descriptor.digest,
            "descriptor": self.child.descriptor.to_json(),
            "attestations": [entry.to_json() for entry in self.child.attestations],
            "config_digest": self.config_digest,
            "pin": self.pin,
            "mode": self.mode.value,
            "host": self.host,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
        }


def from_stored(data: Mapping[str, Any]) -> VerifiedChild:
    """Return the child that `to_json` wrote."""
    return VerifiedChild(
        child=Child(
            platform=parse(data["platform"]),
            descriptor=read_descriptor(data["descriptor"], _ERROR_SUBJECT),
            attestations=tuple(read_descriptor(entry, _ERROR_SUBJECT) for entry in data["attestations"]),
        ),
        config_digest=data["config_digest"],
        pin=data["pin"],
        mode=Mode(data["mode"]),
        host=data["host"],
        attempts=data["attempts"],
        seconds=data["seconds"],
    )
