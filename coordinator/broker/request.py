"""One request of a board, forwarded to the registry with the coordinator's credentials."""

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
from coordinator.registry.http_policy import MAX_REDIRECTS, credentials_for, is_redirect
from coordinator.registry.refusals import refusal

_MAX_ERROR_BYTES = 64 * 1024


class Upstreams(Protocol):
    """The registries behind the broker, through the registry client. Every method raises RegistryError."""

    async def endpoint(self, registry: str) -> Endpoint: ...

    async def authorization(self, repository: Reference, actions: tuple[str, ...]) -> Mapping[str, str]: ...

    async def renewed(self, repository: Reference, actions: tuple[str, ...], challenge: str) -> Mapping[str, str]: ...

    async def get_manifest(self, repository: Reference, digest: str) -> Manifest: ...

    async def put_manifest(self, repository: Reference, manifest: Manifest) -> None: ...

    async def mount_blob(self, repository: Reference, digest: str, source: Reference) -> bool: ...


@dataclass(slots=True, kw_only=True)
class BoardRequest:
    """One request of a board. `kind` is `manifests` or `blobs`, `rest` the path after it."""

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
        """Return the URL of `path` below the real repository."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        return f"{endpoint.url}/v2/{self.repository.repository}/{path}"

    async def followed(self, base: str, location: str) -> str:
        """Return the URL of a `Location` header in the answer to `base`.

        Raises RegistryError where it is missing or must not be followed.
        """
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        if not location:
            raise RegistryError(f"{endpoint.registry} does not say where an upload goes", code="malformed")
        return endpoint.followed(base, location)

    @contextlib.asynccontextmanager
    async def ask(
        self, method: str, url: str, actions: tuple[str, ...], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Exchange]:
        """Send a request without a body and yield its answer. Follow redirects, and renew the token once on 401."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        authorization = await self.upstreams.authorization(self.repository, actions)
        renewed = False
        redirects = 0
        while redirects <= MAX_REDIRECTS:
            credentials = credentials_for(endpoint, url, authorization)
            async with self.connections.request(
                endpoint, method, url, self._headers(url, headers, credentials)
            ) as exchange:
                answer = exchange.answer
                location = answer.header("location")
                if answer.status == 401 and not renewed and endpoint.owns(url):
                    challenge = answer.header("www-authenticate")
                    authorization = await self.upstreams.renewed(self.repository, actions, challenge)
                    renewed = True
                elif location and is_redirect(method, answer.status):
                    url = endpoint.followed(url, location)
                    redirects += 1
                else:
                    yield exchange
                    return
        raise RefusalError(502, "UNAVAILABLE", f"archloom: {self.repository.name} redirects in circles")

    @contextlib.asynccontextmanager
    async def relay(self, method: str, url: str, actions: tuple[str, ...]) -> AsyncIterator[Exchange]:
        """Send a request with the board's own body, streamed, and yield its answer."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        credentials = await self.upstreams.authorization(self.repository, actions) if endpoint.owns(url) else {}
        content_type = self.head.header("content-type") or "application/octet-stream"
        content_headers = {"Content-Type": content_type}
        if self.head.header("content-range"):
            content_headers["Content-Range"] = self.head.header("content-range")
        headers = self._headers(url, content_headers, credentials)
        async with self.connections.request(endpoint, method, url, headers, self.body) as exchange:
            if exchange.answer.status == 401 and endpoint.owns(url):
                challenge = exchange.answer.header("www-authenticate")
                await self.upstreams.renewed(self.repository, actions, challenge)
                # The token expired and the body is already consumed: the engine must send the blob again.
                raise RefusalError(503, "UNAVAILABLE", "archloom: the registry's token ran out, send it again")
            yield exchange

    async def expect(self, exchange: Exchange, accepted: tuple[int, ...], doing: str) -> Head:
        """Return the head of an accepted answer. Raises RegistryError with the registry's message for any other."""
        answer = exchange.answer
        if answer.status in accepted:
            return answer
        try:
            body = await exchange.body.start(_MAX_ERROR_BYTES)
        except WireError:
            body = b""
        raise refusal(answer.status, body, doing=doing, registry=self.repository.registry)

    def _headers(self, url: str, extra: Mapping[str, str] | None, credentials: Mapping[str, str]) -> dict[str, str]:
        authority = url.partition("://")[2].partition("/")[0]
        return {
            "Host": authority,
            "User-Agent": "archloom",
            "Accept-Encoding": "identity",
            **(extra or {}),
            **credentials,
        }
