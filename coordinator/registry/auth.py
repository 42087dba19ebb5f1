"""Authentication to one registry: Basic, or Bearer tokens by scope.

Sources: distribution `docs/spec/auth/token.md` and `oauth.md`; RFC 6750 for `insufficient_scope`. The rules that
matter: credentials go to the registry's own challenge and nowhere else; a token is fetched before the request that
needs it, for all its scopes at once; a token fetched for a request and refused by it is the registry's last word.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from coordinator.domain.image.descriptors import read_json
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import RegistryError
from coordinator.registry.challenges import Challenge, parse
from coordinator.registry.endpoint import Endpoint
from coordinator.registry.refusals import login_hint, refusal

# The token specification: a token lives for 60 seconds unless it says more.
_SHORTEST_LIFE = 60.0
_MARGIN = 15.0
_CLIENT = "archloom"


class CredentialSource(Protocol):
    """Where credentials come from; asked once per registry, off the event loop."""

    def credentials(self, registry: str) -> Credential | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One request to a token server. `form` makes it a POST; `headers` may hold credentials."""

    url: str
    headers: dict[str, str] = field(repr=False)
    form: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What a request may show. `fresh`: fetched for this very request, so that a refusal of it is final."""

    header: Secret
    scopes: tuple[str, ...]
    fresh: bool

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": self.header.reveal()} if self.header else {}


@dataclass(frozen=True, slots=True)
class _Token:
    header: Secret
    expires: float


class Authenticator:
    """Turns a registry's challenges into headers, and keeps tokens per set of scopes until they expire."""

    def __init__(
        self,
        endpoint: Endpoint,
        source: CredentialSource,
        ask: Callable[[TokenRequest], Awaitable[TokenAnswer]],
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._source = source
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._challenge: Challenge | None = None
        self._credential: Credential | None = None
        self._looked_up = False
        self._tokens: dict[tuple[str, ...], _Token] = {}

    def learn(self, challenges: str) -> None:
        """Takes the challenge to answer from a `WWW-Authenticate` header, Bearer before Basic."""
        offered = {challenge.scheme: challenge for challenge in reversed(parse(challenges))}
        self._challenge = offered.get("bearer") or offered.get("basic") or self._challenge

    async def authorization(self, scopes: tuple[str, ...]) -> Authorization:
        """What to show for these scopes: nothing while the registry has not asked.

        Raises RegistryError `unauthorized` when there is nothing to show, or when the token server refuses.
        """
        async with self._lock:
            if self._challenge is None:
                return Authorization(header=Secret(""), scopes=scopes, fresh=False)
            if self._challenge.scheme == "basic":
                return await self._basic(scopes)
            token = self._tokens.get(scopes)
            if token is not None and self._clock() < token.expires:
                return Authorization(header=token.header, scopes=scopes, fresh=False)
            return await self._bearer(self._challenge, scopes)

    async def renewed(self, refused: Authorization, challenges: str) -> Authorization | None:
        """Another authorization after this one was refused, `None` when the refusal is final."""
        async with self._lock:
            self.learn(challenges)
            challenge = self._challenge
            if challenge is None:
                return None
            if challenge.scheme == "basic":
                basic = await self._basic(refused.scopes)
                return None if basic.header == refused.header else basic
            scopes = refused.scopes
            missing = [
                scope for scope in challenge.parameters.get("scope", "").split(" ") if scope not in (*scopes, "")
            ]
            if refused.fresh and (not missing or challenge.parameters.get("error") != "insufficient_scope"):
                return None
            token = self._tokens.get(scopes)
            if token is not None and token.header != refused.header:
                # Somebody else renewed it while this request was under way.
                return Authorization(header=token.header, scopes=scopes, fresh=True)
            if refused.fresh:
                # Some registries look at the first scope alone, so what is missing leads.
                scopes = (*missing, *scopes)
            renewed = await self._bearer(challenge, scopes)
            self._tokens[refused.scopes] = self._tokens[scopes]
            return renewed

    async def _basic(self, scopes: tuple[str, ...]) -> Authorization:
        credential = await self._known_credential()
        if credential is None or not credential.username:
            raise self._no_credentials()
        return Authorization(header=_basic_header(credential), scopes=scopes, fresh=True)

    async def _bearer(self, challenge: Challenge, scopes: tuple[str, ...]) -> Authorization:
        realm = self._endpoint.realm(challenge.parameters.get("realm", ""))
        service = challenge.parameters.get("service", "")
        credential = await self._known_credential()
        answer = None
        if credential is not None and credential.identity_token:
            answer = await self._ask(_oauth(realm, service, scopes, credential.identity_token))
            if answer.status in {404, 405}:
                # Not every token server knows OAuth2.
                answer = None
        if answer is None:
            answer = await self._ask(_plain(realm, service, scopes, credential))
        host = urlsplit(realm).netloc
        if answer.status != 200:
            raise self._refused(answer, host, credential)
        token = _read_token(answer.body, host, self._clock())
        self._tokens[scopes] = token
        return Authorization(header=token.header, scopes=scopes, fresh=True)

    async def _known_credential(self) -> Credential | None:
        if not self._looked_up:
            # A credential helper is a program that may ask a person.
            self._credential = await asyncio.to_thread(self._source.credentials, self._endpoint.registry)
            self._looked_up = True
        return self._credential

    def _no_credentials(self) -> RegistryError:
        registry = self._endpoint.registry
        return RegistryError(
            f"registry {registry} asks for credentials, and there are none",
            hint=login_hint(registry),
            code="unauthorized",
        )

    def _refused(self, answer: TokenAnswer, host: str, credential: Credential | None) -> RegistryError:
        registry = self._endpoint.registry
        who = f"as {credential.username}" if credential and credential.username else "anonymously"
        if credential and credential.identity_token:
            who = "with an identity token"
        return refusal(
            answer.status, answer.body, doing=f"get a token for {registry} from {host} {who}", registry=registry
        )


def _basic_header(credential: Credential) -> Secret:
    pair = f"{credential.username}:{credential.password.reveal()}"
    return Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")


def _oauth(realm: str, service: str, scopes: tuple[str, ...], identity: Secret) -> TokenRequest:
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT,
        "scope": " ".join(scopes),
        "refresh_token": identity.reveal(),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return TokenRequest(url=realm, headers=headers, form=urlencode(form).encode())


def _plain(realm: str, service: str, scopes: tuple[str, ...], credential: Credential | None) -> TokenRequest:
    known = credential is not None and bool(credential.password)
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    query.append(("client_id", _CLIENT))
    if credential is not None and known:
        query.append(("account", credential.username))
    headers = {"Authorization": _basic_header(credential).reveal()} if credential is not None and known else {}
    joint = "&" if urlsplit(realm).query else "?"
    return TokenRequest(url=f"{realm}{joint}{urlencode(query)}", headers=headers)


def _read_token(body: bytes, host: str, now: float) -> _Token:
    answer: dict[str, Any] = read_json(body, f"the token from {host}")
    text = answer.get("token") or answer.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise RegistryError(f"{host} answered without a token", code="malformed")
    life = answer.get("expires_in")
    seconds = float(life) if isinstance(life, int | float) else _SHORTEST_LIFE
    return _Token(Secret(f"Bearer {text}"), now + max(seconds, _SHORTEST_LIFE) - _MARGIN)
