"""One request of a board, forwarded to the registry with the coordinator's credentials."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Protocol

from coordinator.broker.grant import Grant, RefusalError
from coordinator.broker.http1 import Body, Head, Watch, WireError
from coordinator.broker.upstream_connections import Connections, Exchange
from coordinator.domain.image.descriptors import Manifest
from coordinator.domain.image.references import Reference
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.auth import Authorization
from coordinator.registry.endpoint import Endpoint
from coordinator.registry.http_policy import (
    MAX_REDIRECTS,
    MAX_RENEWALS,
    credentials_for,
    is_challenge,
    is_redirect,
    retry_after,
)
from coordinator.registry.refusals import refusal
from coordinator.registry.silence import Silence

_MAX_ERROR_BYTES = 64 * 1024


class Upstreams(Protocol):
    """The registries behind the broker, through the registry client. Every method raises RegistryError."""

    async def endpoint(self, registry: str) -> Endpoint: ...

    async def silence(self, registry: str) -> Silence: ...

    async def authorization(self, repository: Reference, actions: tuple[str, ...]) -> Authorization: ...

    async def renewed(self, repository: Reference, refused: Authorization, challenges: str) -> Authorization | None: ...

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
            raise RegistryError(
                f"{endpoint.registry} gives no Location for the upload",
                code=RegistryCode.NO_REGISTRY,
                registry=endpoint.registry,
            )
        return endpoint.followed(base, location)

    @contextlib.asynccontextmanager
    async def ask(
        self, method: str, url: str, actions: tuple[str, ...], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Exchange]:
        """Send a request without a body and yield its answer, after redirects and renewals of the authorization."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        authorization = await self.upstreams.authorization(self.repository, actions)
        redirects = renewals = 0
        while redirects <= MAX_REDIRECTS:
            credentials = credentials_for(endpoint, url, authorization.headers)
            async with self.connections.request(
                endpoint, method, url, self._headers(url, headers, credentials), await self._watch(method)
            ) as exchange:
                answer = exchange.answer
                challenges = answer.all_values("www-authenticate")
                location = answer.header("location")
                renewed = None
                if renewals < MAX_RENEWALS and is_challenge(endpoint, url, answer.status, challenges):
                    renewed = await self.upstreams.renewed(self.repository, authorization, challenges)
                if renewed is not None:
                    authorization = renewed
                    renewals += 1
                elif location and is_redirect(method, answer.status):
                    url = endpoint.followed(url, location)
                    redirects += 1
                else:
                    yield exchange
                    return
        raise RefusalError(502, "UNAVAILABLE", f"archloom: {self.repository.name} redirects too many times")

    @contextlib.asynccontextmanager
    async def relay(self, method: str, url: str, actions: tuple[str, ...]) -> AsyncIterator[Exchange]:
        """Send a request with the board's own body, streamed, and yield its answer."""
        endpoint = await self.upstreams.endpoint(self.repository.registry)
        # An upload may go to another host: then no authorization is needed.
        authorization = await self.upstreams.authorization(self.repository, actions) if endpoint.owns(url) else None
        content_type = self.head.header("content-type") or "application/octet-stream"
        content_headers = {"Content-Type": content_type}
        if self.head.header("content-range"):
            content_headers["Content-Range"] = self.head.header("content-range")
        headers = self._headers(url, content_headers, authorization.headers if authorization is not None else {})
        watch = await self._watch(method)
        async with self.connections.request(endpoint, method, url, headers, watch, self.body) as exchange:
            if authorization is not None and exchange.answer.status == HTTPStatus.UNAUTHORIZED:
                await self._renew(authorization, exchange.answer)
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
        after = retry_after({name: answer.header(name) for name in ("retry-after", "date") if answer.header(name)})
        raise refusal(answer.status, body, doing=doing, registry=self.repository.registry, after=after)

    async def _renew(self, refused: Authorization, answer: Head) -> None:
        """Renew the authorization of a request whose body is consumed. Raises RefusalError: the board is to send again.

        Returns where the registry's refusal is final.
        """
        # A body is minutes on its way: even a token that was fetched for it may have expired when the registry looks.
        expired = replace(refused, fresh=False)
        if await self.upstreams.renewed(self.repository, expired, answer.all_values("www-authenticate")) is not None:
            raise RefusalError(503, "UNAVAILABLE", "archloom: the registry's token expired, send the blob again")

    async def _watch(self, method: str) -> Watch:
        doing = f"{'pull a layer of' if method == 'GET' else 'push a layer to'} {self.repository.name}"
        return partial((await self.upstreams.silence(self.repository.registry)).watched, doing)

    def _headers(self, url: str, extra: Mapping[str, str] | None, credentials: Mapping[str, str]) -> dict[str, str]:
        authority = url.partition("://")[2].partition("/")[0]
        return {
            "Host": authority,
            "User-Agent": "archloom",
            "Accept-Encoding": "identity",
            **(extra or {}),
            **credentials,
        }
