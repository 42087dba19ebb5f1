"""A grant: what one job may do through the broker, its secret, and what the job has pushed."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.broker.limits import REQUESTS_AT_A_TIME
from coordinator.domain.causes import Cause
from coordinator.domain.image.platform_rewrite import RewrittenImage
from coordinator.domain.image.references import Reference
from coordinator.domain.run.registry_trouble import is_final
from coordinator.domain.secrets import Secret
from coordinator.errors import ArchloomError, RegistryCode

PUSH_REPOSITORY = "push"
_BYTES = "application/octet-stream"
# Failures that end when the engine sends a layer again. `blob_unknown`: a layer existed at its HEAD request and is gone
# when the manifest that names it is pushed.
RESENT = frozenset({RegistryCode.BLOB_UNKNOWN, RegistryCode.UPLOAD_LOST})


class RefusalError(Exception):
    """An error response to the board.

    The engine reads the text: it retries a canonical message for 50 s, and fails at once on archloom's own message.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest that the job pushed through the broker. `size` is in bytes."""

    digest: str
    media_type: str
    size: int


@dataclass(slots=True)
class Upload:
    """A blob upload in progress. `url` is the registry's address for its next chunk."""

    url: str


class Half(Protocol):
    """The body of a request under way, or the reply to it.

    `waits_since`: since when it waits for bytes from the board, or for the board to take some; None while it does not.
    """

    waits_since: float | None


@dataclass(slots=True, kw_only=True)
class Grant:
    """The grant of one job.

    `push` is the repository it may write, under the virtual name `push`; `bases` are the references it may read, by
    virtual name. `rewritten` are manifests and configs that no registry has, by digest, each with its media type.
    `mount_from` are bases whose layers are mounted into `push`; `mountable` holds these layers by digest once they are
    known, and is empty after the registry refused a mount. `requests` limits those that are answered at a time.
    `pushed` is the manifest the job pushed by tag. `refusal` is the first final refusal, or else the last failure;
    where sending a layer again cures it, only until a request succeeds.
    """

    job: str
    push: Reference | None
    bases: Mapping[str, Reference]
    rewritten: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    mount_from: Sequence[Reference] = ()
    secret: Secret = field(default_factory=lambda: Secret(secrets.token_urlsafe(24)))
    manifests: dict[str, PushedManifest] = field(default_factory=dict)
    pushed: PushedManifest | None = None
    refusal: ArchloomError | None = None
    uploads: dict[str, Upload] = field(default_factory=dict)
    readable: dict[str, set[str]] = field(default_factory=dict)
    mountable: Mapping[str, Reference] | None = None
    mounting: asyncio.Lock = field(default_factory=asyncio.Lock)
    requests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_A_TIME))
    _under_way: list[tuple[Half, Half]] = field(default_factory=list)
    _served_at: float = field(default_factory=time.monotonic)

    @property
    def repository(self) -> str:
        """The virtual repository name that the job pushes to."""
        return PUSH_REPOSITORY

    def authenticates(self, secret: str) -> bool:
        return hmac.compare_digest(self.secret.reveal().encode(), secret.encode())

    @contextlib.contextmanager
    def serving(self, body: Half, reply: Half) -> Iterator[None]:
        """Count a request of the job as under way while the block runs."""
        halves = (body, reply)
        self._under_way.append(halves)
        try:
            yield
        finally:
            self._under_way.remove(halves)
            self._served_at = time.monotonic()

    def last_byte(self) -> float:
        """Return when the board last sent or took a byte of this job, by `time.monotonic()`.

        That is now where the registry is waited for: its silence is not the board's.
        """
        waits = [body.waits_since or reply.waits_since for body, reply in self._under_way]
        return max((self._served_at, *(since or time.monotonic() for since in waits)))

    def refused(self, error: ArchloomError) -> None:
        """Record the error of a refused request. The first final refusal stays: later errors follow from it."""
        if self.refusal is None:
            self.refusal = error
        elif not is_final(self.refusal.code) and error.code != Cause.SCHEMA1:
            # Docker up to 20.10 pushes a schema 1 manifest after any failure of its own manifest
            # (moby, distribution/push_v2.go).
            self.refusal = error

    def served(self) -> None:
        """Clear a failure that the engine cures itself: a request has succeeded since."""
        if self.refusal is not None and self.refusal.code in RESENT:
            self.refusal = None


def rewritten_content(images: Iterable[RewrittenImage]) -> dict[str, tuple[str, bytes]]:
    """Return the manifests and configs of these images by digest, each with its media type."""
    content: dict[str, tuple[str, bytes]] = {}
    for image in images:
        content[image.manifest.digest] = (image.manifest.media_type, image.manifest.raw)
        content[image.config_digest] = (_BYTES, image.config)
    return content
