"""One request of a board on its way upstream: with our credentials, to where the registry wants it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from coordinator.broker.grant import Grant, RefusalError
from coordinator.broker.http1 import Body, Head, WireError
from coordinator.broker.upstream_connections import Connections, Exchange
from coordinator.domain.image.descriptors import Manifest
from coordinator.domain.image.references import Reference
from coordinator.errors import RegistryError
from coordinator.registry.endpoint import Endpoint
from coordinator.registry.refusals import refusal

_LARGEST_COMPLAINT = 64 * 1024
_MOST_REDIRECTS = 5


class Upstreams(Protocol):
    """The registries behind the broker, as the registry client knows them. Everything raises RegistryError."""

    async def endpoint(self, registry: str) -> Endpoint: ...

    async def authorization(self, repository: Reference, actions: tuple[str, ...]) -> Mapping[str, str]: ...

    async def renewed(self, repository: Reference, actions: tuple[str, ...], challenge: str) -> Mapping[str, str]: ...

    async def get_manifest(self, repository: Reference, digest: str) -> Manifest: ...

    async def put_manifest(self, repository: Reference, manifest: Manifest) -> None: ...

    async def mount_blob(self, repository: Reference, digest: str, source: Reference) -> bool: ...


@dataclass(slots=True, kw_only=True)
class BoardRequest:
    """`kind` is `manifests` or `blobs`, `rest` what follows it in the path."""

    grant: Grant
    repository: Reference
    kind: str
    rest: str
    query: str
    head: Head
    body: Body
    upstreams: Upstreams
    connections: Connections

    async def url(self, path: str) -> str:
        """The URL of `path` below the real repository."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        return f"{endpoint.url}/v2/{self.repository.repository}/{path}"

    async def followed(self, base: str, location: str) -> str:
        """Where a `Location` header of the answer to `base` leads. Raises RegistryError where it may not."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        if not location:
            raise RegistryError(f"{endpoint.registry} does not say where an upload goes", code="malformed")
        return endpoint.followed(base, location)

    @contextlib.asynccontextmanager
    async def ask(
        self, method: str, url: str, actions: tuple[str, ...], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Exchange]:
        """A request without a body, its redirects followed, with a fresh token where the registry wants one."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        shown = await self.upstreams.authorization(self.repository, actions)
        renewed = False
        for _ in range(_MOST_REDIRECTS):
            ours = shown if endpoint.owns(url) else {}
            async with self.connections.request(endpoint, method, url, self._headers(url, headers, ours)) as exchange:
                answer = exchange.answer
                location = answer.header("location")
                if answer.status == 401 and not renewed and endpoint.owns(url):
                    challenge = answer.header("www-authenticate")
                    shown = await self.upstreams.renewed(self.repository, actions, challenge)
                    renewed = True
                elif answer.status in (301, 302, 303, 307, 308) and location:
                    url = endpoint.followed(url, location)
                else:
                    yield exchange
                    return
        raise RefusalError(502, "UNAVAILABLE", f"archloom: {self.repository.name} redirects in circles")

    @contextlib.asynccontextmanager
    async def relay(self, method: str, url: str, actions: tuple[str, ...]) -> AsyncIterator[Exchange]:
        """A request with the board's own body, as it comes."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        shown = await self.upstreams.authorization(self.repository, actions) if endpoint.owns(url) else {}
        kind = self.head.header("content-type") or "application/octet-stream"
        kept = {"Content-Type": kind}
        if self.head.header("content-range"):
            kept["Content-Range"] = self.head.header("content-range")
        headers = self._headers(url, kept, shown)
        async with self.connections.request(endpoint, method, url, headers, self.body) as exchange:
            if exchange.answer.status == 401 and endpoint.owns(url):
                challenge = exchange.answer.header("www-authenticate")
                await self.upstreams.renewed(self.repository, actions, challenge)
                # The token ran out under way and the body is spent: the engine sends the blob again.
                raise RefusalError(503, "UNAVAILABLE", "archloom: the registry's token ran out, send it again")
            yield exchange

    async def expect(self, exchange: Exchange, accepted: tuple[int, ...], doing: str) -> Head:
        """The answer's head where its status is accepted; else RegistryError with the registry's own words."""
        answer = exchange.answer
        if answer.status in accepted:
            return answer
        try:
            said = await exchange.body.start(_LARGEST_COMPLAINT)
        except WireError:
            said = b""
        raise refusal(answer.status, said, doing=doing, registry=self.repository.registry)

    def _headers(self, url: str, own: Mapping[str, str] | None, shown: Mapping[str, str]) -> dict[str, str]:
        authority = url.partition("://")[2].partition("/")[0]
        return {"Host": authority, "User-Agent": "archloom", "Accept-Encoding": "identity", **(own or {}), **shown}
