"""One registry, as archloom uses it: manifests and blobs in and out, by the OCI distribution specification.

Bytes are kept as they are and every digest is computed here: neither a header nor a registry is believed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from random import SystemRandom
from types import TracebackType
from typing import Self, TypeVar

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import ACCEPT, LARGEST_MANIFEST, Descriptor, Manifest, read_manifest, sha256
from coordinator.domain.image.references import is_digest
from coordinator.errors import RegistryError
from coordinator.registry.auth import CredentialSource
from coordinator.registry.endpoint import Endpoint, resolve
from coordinator.registry.faults import Interruption
from coordinator.registry.transport import Answer, Body, Request, Transport

T = TypeVar("T")

PULL = ("pull",)
PUSH = ("pull", "push")
_DICE = SystemRandom()
_CANCELLED = (200, 202, 204, 404, 405)


class Registry:
    """A registry, used inside `async with`.

    Every method raises RegistryError with a `code`, or UsageError where the inventory or a credential helper is what is
    wrong. What a busy registry or a broken connection spoils is tried five times, with pauses of `sleep` and `random`.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: CredentialSource,
        *,
        random: Callable[[], float] = _DICE.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint: Endpoint = resolve(settings)
        self._transport = Transport(self.endpoint, credentials, random=random, sleep=sleep, clock=clock)

    @property
    def name(self) -> str:
        """The registry as references name it."""
        return self.endpoint.registry

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def check_reachable(self) -> None:
        """Returns when a registry answers there; credentials are not asked for."""
        await self._transport.persist(self._transport.introduce)

    async def check_push(self, repository: str) -> None:
        """Returns when we may push: an upload is opened and given up again."""
        opened = await self._transport.ask(self._open_upload(repository, f"push to {self.name}/{repository}"))
        await self._cancel_upload(repository, opened)

    async def authorization(self, repository: str, actions: tuple[str, ...]) -> dict[str, str]:
        """The headers that let a request of one's own do `actions` (`PULL`, `PUSH`) in this repository."""
        await self.check_reachable()
        return (await self._transport.auth.authorization((_scope(repository, actions),))).headers

    async def refresh_authorization(self, repository: str, actions: tuple[str, ...], challenge: str) -> dict[str, str]:
        """New headers after the registry answered 401 with this `WWW-Authenticate` header; to be asked once a request.

        Raises RegistryError `unauthorized` when there is nothing new to show: the refusal is final.
        """
        auth = self._transport.auth
        shown = await auth.authorization((_scope(repository, actions),))
        renewed = await auth.renewed(shown, challenge)
        if renewed is None:
            raise RegistryError(f"{self.name} refuses our credentials for {repository}", code="unauthorized")
        return renewed.headers

    async def head_manifest(self, repository: str, target: str) -> Descriptor | None:
        """What a tag or digest names, `None` where the registry has no such manifest (or does not show it to us)."""
        request = self._manifest(repository, target, "HEAD", (200, 404, 405))
        answer = await self._transport.ask(request)
        if answer.status == 404:
            return None
        digest, size = answer.headers.get("docker-content-digest", ""), answer.headers.get("content-length", "")
        if answer.status == 405 or not is_digest(digest) or not size.isdecimal():
            # Headers are optional here; the bytes always tell.
            manifest = await self._fetch_manifest(repository, target)
            return None if manifest is None else manifest.descriptor
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Descriptor(media_type=media_type, digest=digest, size=int(size))

    async def get_manifest(self, repository: str, target: str) -> Manifest:
        """The manifest or index of a tag or digest; `not_found` where there is none.

        A tag is resolved first, then fetched by digest, so that no registry can answer with one child of a list.
        """
        digest = target
        if not is_digest(target):
            found = await self.head_manifest(repository, target)
            if found is None:
                raise self._missing(repository, target)
            digest = found.digest
        manifest = await self._fetch_manifest(repository, digest)
        if manifest is None:
            raise self._missing(repository, target)
        return manifest

    async def put_manifest(self, repository: str, target: str, raw: bytes, media_type: str) -> str:
        """Puts these bytes under a tag or their digest and returns the digest. The same put again changes nothing."""
        digest = sha256(raw)
        name = self._named(repository, target)
        if is_digest(target) and target != digest:
            raise RegistryError(f"{name} cannot be {digest}: a manifest's digest is its name", code="mismatch")
        request = Request(
            doing=f"push the manifest {name}",
            method="PUT",
            url=f"{self.endpoint.url}/v2/{repository}/manifests/{target}",
            accepted=(200, 201, 202),
            scopes=(_scope(repository, PUSH),),
            headers={"Content-Type": media_type},
            body=raw,
        )
        answer = await self._transport.ask(request)
        said = answer.headers.get("docker-content-digest", digest)
        if said != digest:
            raise RegistryError(f"{name} was stored as {said}, expected {digest}", code="mismatch")
        return digest

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes:
        """A small blob, whole and verified; `too_large` beyond `limit` bytes."""

        async def read() -> bytes:
            body = bytearray()
            async with aclosing(self.stream_blob(repository, digest)) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limit:
                        raise RegistryError(
                            f"the blob {self._named(repository, digest)} is larger than {limit} bytes", code="too_large"
                        )
            return bytes(body)

        return await self._transport.persist(lambda: _interruptible(read()))

    async def stream_blob(self, repository: str, digest: str) -> AsyncGenerator[bytes, None]:
        """A blob in chunks.

        Raises RegistryError `mismatch` at its end when what came is not `digest`, `broken` when the connection breaks.
        """
        name = self._named(repository, digest)
        request = Request(
            doing=f"pull the blob {name}",
            method="GET",
            url=f"{self.endpoint.url}/v2/{repository}/blobs/{digest}",
            accepted=(200,),
            scopes=(_scope(repository, PULL),),
        )
        seen = hashlib.sha256()
        async with self._transport.open(request) as chunks:
            async for chunk in chunks:
                seen.update(chunk)
                yield chunk
        if f"sha256:{seen.hexdigest()}" != digest:
            raise RegistryError(f"the blob {name} came as sha256:{seen.hexdigest()}", code="mismatch")

    async def blob_exists(self, repository: str, digest: str) -> bool:
        request = Request(
            doing=f"look for the blob {self._named(repository, digest)}",
            method="HEAD",
            url=f"{self.endpoint.url}/v2/{repository}/blobs/{digest}",
            accepted=(200, 404),
            scopes=(_scope(repository, PULL),),
        )
        return (await self._transport.ask(request)).status == 200

    async def mount_blob(self, repository: str, digest: str, source_repository: str) -> bool:
        """Whether the registry took the blob over from another of its repositories.

        No refusal is an error: the blob can still be uploaded.
        """
        request = Request(
            doing=f"mount {digest} into {self.name}/{repository}",
            method="POST",
            url=f"{self.endpoint.url}/v2/{repository}/blobs/uploads/?mount={digest}&from={source_repository}",
            accepted=(201, 202, 400, 404, 405, 409),
            scopes=(_scope(repository, PUSH), _scope(source_repository, PULL)),
        )
        try:
            answer = await self._transport.ask(request)
        except RegistryError as error:
            if error.code in {"unauthorized", "denied"}:
                return False
            raise
        if answer.status == 202:
            # Not mounted: an ordinary upload was opened instead.
            await self._cancel_upload(repository, answer)
        return answer.status == 201

    async def upload_blob(self, repository: str, digest: str, size: int, chunks: Body) -> None:
        """Uploads the `size` bytes of `digest`; `chunks` makes them anew for every try."""
        doing = f"push the blob {self._named(repository, digest)}"

        async def upload() -> None:
            opened = await self._transport.ask_once(self._open_upload(repository, doing))
            location = self.endpoint.followed(opened.url, _location(opened, doing))
            request = Request(
                doing=doing,
                method="PUT",
                # The query is the registry's state and stays as it is.
                url=f"{location}{'&' if '?' in location else '?'}digest={digest}",
                accepted=(200, 201, 204),
                scopes=(_scope(repository, PUSH),),
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
                body=lambda: _exactly(chunks(), size, digest),
            )
            await self._transport.ask_once(request)

        await self._transport.persist(lambda: _interruptible(upload()))

    async def _fetch_manifest(self, repository: str, target: str) -> Manifest | None:
        name = self._named(repository, target)
        request = self._manifest(repository, target, "GET", (200, 404))
        answer = await self._transport.ask(request, limit=LARGEST_MANIFEST)
        if answer.status == 404:
            return None
        digest = sha256(answer.body)
        promised = target if is_digest(target) else answer.headers.get("docker-content-digest", digest)
        if digest != promised:
            raise RegistryError(f"the manifest {name} came as {digest}, expected {promised}", code="mismatch")
        return read_manifest(answer.body, answer.headers.get("content-type", ""), name)

    def _manifest(self, repository: str, target: str, method: str, accepted: tuple[int, ...]) -> Request:
        return Request(
            doing=f"read the manifest {self._named(repository, target)}",
            method=method,
            url=f"{self.endpoint.url}/v2/{repository}/manifests/{target}",
            accepted=accepted,
            scopes=(_scope(repository, PULL),),
            headers={"Accept": ACCEPT},
        )

    def _open_upload(self, repository: str, doing: str) -> Request:
        return Request(
            doing=doing,
            method="POST",
            url=f"{self.endpoint.url}/v2/{repository}/blobs/uploads/",
            accepted=(202,),
            scopes=(_scope(repository, PUSH),),
        )

    async def _cancel_upload(self, repository: str, opened: Answer) -> None:
        doing = f"give up an upload to {self.name}/{repository}"
        try:
            request = Request(
                doing=doing,
                method="DELETE",
                url=self.endpoint.followed(opened.url, _location(opened, doing)),
                accepted=_CANCELLED,
                scopes=(_scope(repository, PUSH),),
            )
            await self._transport.ask_once(request)
        except (RegistryError, Interruption):
            # An open upload costs nothing but the registry's own clean-up; some cannot be cancelled.
            return

    def _named(self, repository: str, target: str) -> str:
        return f"{self.name}/{repository}{'@' if is_digest(target) else ':'}{target}"

    def _missing(self, repository: str, target: str) -> RegistryError:
        return RegistryError(
            f"{self._named(repository, target)} does not exist, or these credentials may not see it", code="not_found"
        )


def _scope(repository: str, actions: tuple[str, ...]) -> str:
    return f"repository:{repository}:{','.join(actions)}"


def _location(answer: Answer, doing: str) -> str:
    location = answer.headers.get("location", "")
    if not location:
        raise RegistryError(f"cannot {doing}: the registry does not say where the upload goes", code="malformed")
    return location


async def _interruptible(operation: Awaitable[T]) -> T:
    """Makes a transfer that broke on its way one that may be tried again."""
    try:
        return await operation
    except RegistryError as error:
        if error.code == "broken":
            raise Interruption(error) from error
        raise


async def _exactly(chunks: AsyncGenerator[bytes, None], size: int, digest: str) -> AsyncGenerator[bytes, None]:
    """These chunks, `size` bytes in all. A source that has more or fewer is told apart from a broken connection."""
    sent = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            sent += len(chunk)
            if sent > size:
                break
            yield chunk
    if sent != size:
        found = f"more than {size}" if sent > size else str(sent)
        raise RegistryError(f"the blob {digest} has {found} bytes, expected {size}", code="mismatch")
