"""Client of one registry: reads and writes manifests and blobs by the OCI distribution-spec.

Bytes are kept unchanged. The digest of every manifest and blob is computed from its bytes and compared with the
digest that was requested or that the registry reports.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from random import SystemRandom
from types import TracebackType
from typing import Self, TypeVar

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import MAX_MANIFEST_BYTES, Descriptor, Manifest, read_manifest, sha256
from coordinator.domain.image.references import is_digest
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.auth import Authorization, CredentialSource, repository_scope
from coordinator.registry.blob_stream import exactly, retryable, upload_location
from coordinator.registry.endpoint import Endpoint, resolve
from coordinator.registry.faults import RetryableFailure
from coordinator.registry.http_policy import UPLOAD_ENDED
from coordinator.registry.requests import PULL, PUSH, blob_head, manifest_put, manifest_request, named, open_upload
from coordinator.registry.silence import Silence
from coordinator.registry.transport import Answer, Body, Request, Transport

T = TypeVar("T")

_RANDOM = SystemRandom()
_TOLD_LAG_S = 3.0
_CANCEL_STATUSES = (200, 202, 204, 404, 405)


class Registry:
    """A registry. Use it inside `async with`.

    Every method raises RegistryError with a `code`, or UsageError where the inventory or a credential helper is at
    fault. A request that fails because the registry is busy or the connection breaks gets three tries in all; `sleep`
    and `random` determine the pauses. `tell` gets a line for the user where the registry keeps a request waiting.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: CredentialSource,
        *,
        random: Callable[[], float] = _RANDOM.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.endpoint: Endpoint = resolve(settings)
        self._transport = Transport(self.endpoint, credentials, random=random, sleep=sleep, clock=clock, tell=tell)
        self._cancelling: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """The registry's name in references."""
        return self.endpoint.registry

    @property
    def silence(self) -> Silence:
        """Tells of this registry's silence, also for requests that a caller makes itself."""
        return self._transport.silence

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cancelling:
            _, late = await asyncio.wait(self._cancelling, timeout=deadlines.UPLOAD_CANCEL)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._cancelling, return_exceptions=True)
        await self._transport.__aexit__(kind, error, trace)

    async def check_reachable(self) -> None:
        """Check that a registry answers at the endpoint, without using credentials."""
        await self._transport.retry(self._transport.ping)

    async def check_push(self, repository: str) -> None:
        """Check that the credentials may push: open an upload and cancel it."""
        opened = await self._transport.ask(open_upload(self.endpoint, repository, f"push to {self.name}/{repository}"))
        # Nobody waits for this answer before the end of `async with`.
        self._cancelling.append(asyncio.create_task(self._cancel_upload(repository, opened)))

    async def status(self, repository: str, path: str) -> tuple[int, Mapping[str, str]]:
        """Return the status and the headers, with names in lower case, of a GET of this path below the repository.

        Raises RegistryError for a status that is neither success nor 400 or 404.
        """
        request = Request(
            doing=f"read {path.partition('?')[0]} of {self.name}/{repository}",
            method="GET",
            url=f"{self.endpoint.url}/v2/{repository}/{path}",
            accepted=(200, 400, 404),
            scopes=(repository_scope(repository, PULL),),
        )
        async with aclosing(await self._transport.retry(lambda: self._transport.open_once(request))) as response:
            return response.status_code, {name.lower(): value for name, value in response.headers.items()}

    def start_over(self) -> None:
        """Ask again how this registry authenticates, and read the credentials again, before the next request."""
        self._transport.start_over()

    async def authorization(self, repository: str, actions: tuple[str, ...]) -> Authorization:
        """Return the authorization for a caller's own request to do `actions` (`PULL`, `PUSH`) in `repository`."""
        await self.check_reachable()
        return await self._transport.auth.authorization((repository_scope(repository, actions),))

    async def renewed_authorization(self, refused: Authorization, challenges: str) -> Authorization | None:
        """Return another authorization after the registry refused this one, `None` where the refusal is final.

        `challenges` is the `WWW-Authenticate` header of the refusal.
        """
        return await self._transport.auth.renewed(refused, challenges)

    async def head_manifest(self, repository: str, target: str) -> Descriptor | None:
        """Return the descriptor of a tag or digest, `None` where the manifest does not exist or is hidden from us."""
        request = manifest_request(self.endpoint, repository, target, "HEAD", (200, 404, 405))
        answer = await self._transport.ask(request)
        if answer.status == 404:
            return None
        digest, size = answer.headers.get("docker-content-digest", ""), answer.headers.get("content-length", "")
        if answer.status == 405 or not is_digest(digest) or not size.isdecimal():
            # Registries may omit these headers or not support HEAD: compute the descriptor from the bytes.
            manifest = await self._fetch_manifest(repository, target)
            return None if manifest is None else manifest.descriptor
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Descriptor(media_type=media_type, digest=digest, size=int(size))

    async def get_manifest(self, repository: str, target: str) -> Manifest:
        """Return the manifest or index of a tag or digest. Raises RegistryError `not_found` where there is none.

        A tag is resolved first, then fetched by digest, so that no registry can answer with one child of an index.
        """
        digest = target
        if not is_digest(target):
            descriptor = await self.head_manifest(repository, target)
            if descriptor is None:
                raise self._missing(repository, target)
            digest = descriptor.digest
        manifest = await self._fetch_manifest(repository, digest)
        if manifest is None:
            raise self._missing(repository, target)
        return manifest

    async def put_manifest(self, repository: str, target: str, raw: bytes, media_type: str) -> str:
        """Put these bytes under a tag or their digest, and return the digest. Idempotent.

        Raises RegistryError `mismatch` where `target` or the registry's answer is another digest.
        """
        answer = await self._transport.ask(manifest_put(self.endpoint, repository, target, raw, media_type))
        return self._stored_digest(repository, target, raw, answer)

    async def claim_tag(self, repository: str, tag: str, manifest: Manifest) -> str:
        """Point the tag at this manifest where there is no such tag, and return the digest that it then has.

        A tag that is there is never moved: the digest may be another one's. Registries have no compare-and-swap for
        tags (distribution-spec#251), so the tag is read before every try and after the last one. A caller that must
        keep the tag from a writer who read before and writes after this call calls it again later.
        """

        async def claim() -> str:
            current = await self.head_manifest(repository, tag)
            if current is not None:
                return current.digest
            refused: RegistryError | None = None
            try:
                request = manifest_put(self.endpoint, repository, tag, manifest.raw, manifest.media_type)
                self._stored_digest(repository, tag, manifest.raw, await self._transport.ask_once(request))
            except RegistryError as error:
                # Where tags are immutable and another program was faster, the refusal has many forms (400, 403, 409,
                # 412), also for the same digest (ECR). What the tag says decides.
                refused = error
            digest = await (self._digest_of(repository, tag) if refused else self.read_back(repository, tag, ""))
            if not digest:
                raise refused or RegistryError(
                    f"the registry does not have the tag {self._named(repository, tag)} that was put there",
                    code=Cause.NOT_FOUND,
                    registry=self.name,
                )
            return digest

        return await self._transport.retry(claim)

    async def read_back(self, repository: str, tag: str, before: str) -> str:
        """Return the digest of a tag that was just put, empty where it does not exist.

        While the registry shows what was there `before`, the tag is read again for up to 30 s.
        """
        waited = 0.0
        for pause in deadlines.READ_BACK_PAUSES:
            digest = await self._digest_of(repository, tag)
            if digest not in ("", before):
                return digest
            if waited <= _TOLD_LAG_S < waited + pause:
                self._transport.tell(f"registry {self.name} does not show {self._named(repository, tag)} as it was put")
            await self._transport.sleep(pause)
            waited += pause
        return await self._digest_of(repository, tag)

    async def _digest_of(self, repository: str, tag: str) -> str:
        current = await self.head_manifest(repository, tag)
        return current.digest if current else ""

    async def get_blob(self, repository: str, digest: str, limit: int) -> bytes:
        """Return a small blob, whole and verified. Raises RegistryError `too_large` beyond `limit` bytes."""

        async def read() -> bytes:
            body = bytearray()
            async with aclosing(self.stream_blob(repository, digest)) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limit:
                        raise RegistryError(
                            f"the blob {self._named(repository, digest)} is larger than {limit} bytes",
                            code=RegistryCode.TOO_LARGE,
                        )
            return bytes(body)

        return await self._transport.retry(lambda: retryable(read()))

    async def stream_blob(self, repository: str, digest: str) -> AsyncGenerator[bytes, None]:
        """Yield a blob in chunks.

        Raises RegistryError `corrupt` after the last chunk where the bytes do not have `digest`, `broken` where the
        connection breaks.
        """
        name = self._named(repository, digest)
        request = Request(
            doing=f"pull the blob {name}",
            method="GET",
            url=f"{self.endpoint.url}/v2/{repository}/blobs/{digest}",
            accepted=(200,),
            scopes=(repository_scope(repository, PULL),),
        )
        seen = hashlib.sha256()
        async with self._transport.open(request) as chunks:
            async for chunk in chunks:
                seen.update(chunk)
                yield chunk
        if f"sha256:{seen.hexdigest()}" != digest:
            raise RegistryError(
                f"the blob {name} arrived with the digest sha256:{seen.hexdigest()}",
                code=RegistryCode.CORRUPT,
                registry=self.name,
            )

    async def blob_exists(self, repository: str, digest: str) -> bool:
        return (await self._transport.ask(blob_head(self.endpoint, repository, digest))).status == 200

    async def blob_size(self, repository: str, digest: str) -> int | None:
        """Return the bytes of a blob, `None` where the registry does not say it. Raises RegistryError `not_found`."""
        try:
            answer = await self._transport.ask(blob_head(self.endpoint, repository, digest))
        except RegistryError as error:
            if error.code == RegistryCode.DENIED:
                # A store that the registry redirects to may allow GET only.
                return None
            raise
        if answer.status == 404:
            raise self._missing(repository, digest)
        size = answer.headers.get("content-length", "")
        return int(size) if size.isdecimal() else None

    async def mount_blob(self, repository: str, digest: str, source_repository: str) -> bool:
        """Mount a blob from another repository of this registry, and return whether it is mounted.

        A refusal is no error: the blob can still be uploaded.
        """
        request = Request(
            doing=f"mount {digest} into {self.name}/{repository}",
            method="POST",
            url=f"{self.endpoint.url}/v2/{repository}/blobs/uploads/?mount={digest}&from={source_repository}",
            accepted=(201, 202),
            scopes=(repository_scope(repository, PUSH), repository_scope(source_repository, PULL)),
        )
        try:
            # In one try: registries refuse a mount with any status, also 500 and 501
            # (https://github.com/oras-project/oras/issues/1924).
            answer = await self._transport.ask_once(request)
        except (RegistryError, RetryableFailure):
            return False
        if answer.status == 202:
            # A registry that cannot mount the blob opens an upload instead
            # (distribution-spec, "Mounting a blob from another repository").
            await self._cancel_upload(repository, answer)
        return answer.status == 201

    async def upload_blob(self, repository: str, digest: str, size: int, chunks: Body) -> None:
        """Upload the blob `digest` of `size` bytes. `chunks` returns a new stream of its bytes for every try."""
        doing = f"push the blob {self._named(repository, digest)}"

        async def upload() -> None:
            opened = await self._transport.ask_once(open_upload(self.endpoint, repository, doing))
            location = self.endpoint.followed(opened.url, upload_location(opened.headers, doing))
            request = Request(
                doing=doing,
                method="PUT",
                # The query of a Location is the registry's upload state: append to it and change nothing.
                url=f"{location}{'&' if '?' in location else '?'}digest={digest}",
                accepted=UPLOAD_ENDED,
                scopes=(repository_scope(repository, PUSH),),
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
                body=lambda: exactly(chunks(), size, digest),
            )
            await self._transport.ask_once(request)

        await self._transport.retry(lambda: retryable(upload()))

    async def _fetch_manifest(self, repository: str, target: str) -> Manifest | None:
        name = self._named(repository, target)
        request = manifest_request(self.endpoint, repository, target, "GET", (200, 404))
        answer = await self._transport.ask(request, limit=MAX_MANIFEST_BYTES)
        if answer.status == 404:
            return None
        digest = sha256(answer.body)
        promised = target if is_digest(target) else answer.headers.get("docker-content-digest", digest)
        if digest != promised:
            raise RegistryError(
                f"the manifest {name} arrived with the digest {digest}, expected {promised}",
                code=RegistryCode.CORRUPT,
                registry=self.name,
            )
        try:
            return read_manifest(answer.body, answer.headers.get("content-type", ""), name)
        except RegistryError as error:
            if error.code == Cause.MALFORMED and not is_digest(target):
                # It may be anybody's answer: only a digest proves that these bytes are what was pushed.
                raise RegistryError(error.message, code=RegistryCode.NO_REGISTRY, registry=self.name) from error
            raise

    def _stored_digest(self, repository: str, target: str, raw: bytes, answer: Answer) -> str:
        digest = sha256(raw)
        stored = answer.headers.get("docker-content-digest", digest)
        if stored != digest:
            raise RegistryError(
                f"{self._named(repository, target)} was stored as {stored}, expected {digest}", code=Cause.MISMATCH
            )
        return digest

    async def _cancel_upload(self, repository: str, opened: Answer) -> None:
        doing = f"cancel an upload to {self.name}/{repository}"
        try:
            request = Request(
                doing=doing,
                method="DELETE",
                url=self.endpoint.followed(opened.url, upload_location(opened.headers, doing)),
                accepted=_CANCEL_STATUSES,
                scopes=(repository_scope(repository, PUSH),),
            )
            await self._transport.ask_once(request)
        except (RegistryError, RetryableFailure):
            # The registry removes an abandoned upload itself, and some registries do not support DELETE.
            return

    def _named(self, repository: str, target: str) -> str:
        return named(self.endpoint, repository, target)

    def _missing(self, repository: str, target: str) -> RegistryError:
        return RegistryError(
            f"{self._named(repository, target)} does not exist, or these credentials may not see it",
            code=Cause.NOT_FOUND,
            registry=self.name,
        )
