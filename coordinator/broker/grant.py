"""A grant: what one job may do through the broker, the secret that opens it, and what went through."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.domain.image.references import Reference
from coordinator.domain.secrets import Secret
from coordinator.errors import ArchloomError

PUSH = "push"
# Trouble that another try, on a new upload where there was one, may not meet. `blob_unknown`: a layer that was there
# when it was asked for and is not when the manifest names it is sent again.
RETRYABLE = frozenset({"blob_unknown", "unreachable", "unavailable", "upload_lost"})


class RefusalError(Exception):
    """An answer to the board that is not what it asked for.

    The engine reads the text: a canonical message is retried for 50 s, a message of our own fails at once.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest as its bytes came through the broker."""

    digest: str
    media_type: str
    size: int


@dataclass(slots=True)
class Upload:
    """A blob upload under way: where the registry wants its next part."""

    url: str


@dataclass(slots=True, kw_only=True)
class Grant:
    """One job's. `push` is the repository it may write, shown as `push`; `bases` are what it may read, by shown name.

    `mount_from` are bases whose layers are mounted into `push`; `mountable` are these layers once they are known, by
    digest, and none after the registry refused one.
    `pushed` is the manifest the job pushed by tag. `refusal` is the first thing a registry refused it for good, or
    the trouble with a registry that has not served it since.
    """

    job: str
    push: Reference | None
    bases: Mapping[str, Reference]
    mount_from: Sequence[Reference] = ()
    secret: Secret = field(default_factory=lambda: Secret(secrets.token_urlsafe(24)))
    manifests: dict[str, PushedManifest] = field(default_factory=dict)
    pushed: PushedManifest | None = None
    refusal: ArchloomError | None = None
    uploads: dict[str, Upload] = field(default_factory=dict)
    readable: dict[str, set[str]] = field(default_factory=dict)
    mountable: Mapping[str, Reference] | None = None
    mounting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def repository(self) -> str:
        """The repository name the job pushes to."""
        return PUSH

    def authenticates(self, secret: str) -> bool:
        return hmac.compare_digest(self.secret.reveal().encode(), secret.encode())

    def refused(self, error: ArchloomError) -> None:
        """Keeps why a registry said no; what follows from it is not the reason."""
        if self.refusal is None or self.refusal.code in RETRYABLE:
            self.refusal = error

    def served(self) -> None:
        """Forgets trouble that has passed."""
        if self.refusal is not None and self.refusal.code in RETRYABLE:
            self.refusal = None
