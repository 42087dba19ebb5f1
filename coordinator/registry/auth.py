"""Authentication to one registry: Basic, or Bearer tokens by scope.

Sources: distribution `docs/spec/auth/token.md` and `oauth.md`; RFC 6750 for `insufficient_scope`.
Credentials are sent only in answer to the registry's own challenge. A token is fetched before the request that needs
it, for all of its scopes at once. A refusal of a token that was fetched for that same request is final.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from coordinator.domain.image.descriptors import read_json
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.challenges import Challenge, parse
from coordinator.registry.endpoint import Endpoint
from coordinator.registry.refusals import login_hint, refusal

# token.md: `expires_in` is 60 seconds where it is omitted, and never less.
_MIN_TOKEN_LIFE_S = 60.0
_EXPIRY_MARGIN_S = 15.0
_CLIENT_ID = "archloom"
_TOLD_AFTER_S = 3.0


class CredentialSource(Protocol):
    """Source of registry credentials. Called in a worker thread: once per repository, and again after it has failed."""

    def credentials(self, registry: str, repository: str) -> Credential | None: ...


def repository_scope(repository: str, actions: tuple[str, ...]) -> str:
    """Return the scope of a token for these actions (distribution `docs/spec/auth/scope.md`)."""
    return f"repository:{repository}:{','.join(actions)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One request to a token server: a POST where `form` is set, else a GET. `headers` may hold credentials."""

    url: str
    headers: dict[str, str] = field(repr=False)
    form: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The authorization of one request. `fresh`: fetched for this request, so that a refusal of it is final."""

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
    """Answers a registry's challenges with headers, and caches tokens per set of scopes until they expire."""

    def __init__(
        self,
        endpoint: Endpoint,
        source: CredentialSource,
        ask: Callable[[TokenRequest], Awaitable[TokenAnswer]],
        clock: Callable[[], float],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._endpoint = endpoint
        self._source = source
        self._ask = ask
        self._clock = clock
        self._tell = tell
        self._lock = asyncio.Lock()
        self._challenge: Challenge | None = None
        # By repository; None where access to it is anonymous.
        self._credentials: dict[str, Credential | None] = {}
        self._tokens: dict[tuple[str, ...], _Token] = {}

    def learn(self, challenges: str) -> None:
        """Take the challenge to answer from a `WWW-Authenticate` header: Bearer before Basic."""
        offered = {challenge.scheme: challenge for challenge in reversed(parse(challenges))}
        self._challenge = offered.get("bearer") or offered.get("basic") or self._challenge

    def start_over(self) -> None:
        """Forget credentials, tokens and the challenge: all may have changed, or have been a proxy's own."""
        self._challenge = None
        self._credentials.clear()
        self._tokens.clear()

    async def authorization(self, scopes: tuple[str, ...]) -> Authorization:
        """Return the authorization for these scopes, empty while the registry has sent no challenge.

        Raises RegistryError `unauthorized` where there are no credentials, or where the token server refuses.
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
        """Return another authorization after the registry refused this one, `None` where the refusal is final."""
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
                # Another request renewed the token while this one was under way.
                return Authorization(header=token.header, scopes=scopes, fresh=True)
            if refused.fresh:
                # Some registries read only the first scope, so put the missing scopes first.
                scopes = (*missing, *scopes)
            renewed = await self._bearer(challenge, scopes)
            self._tokens[refused.scopes] = self._tokens[scopes]
            return renewed

    async def _basic(self, scopes: tuple[str, ...]) -> Authorization:
        credential = await self._known_credential(scopes)
        if credential is None or not credential.username:
            raise self._no_credentials()
        return Authorization(header=_basic_header(credential), scopes=scopes, fresh=True)

    async def _bearer(self, challenge: Challenge, scopes: tuple[str, ...]) -> Authorization:
        realm = self._endpoint.realm(challenge.parameters.get("realm", ""))
        service = challenge.parameters.get("service", "")
        credential = await self._known_credential(scopes)
        if credential is not None and credential.registry_token:
            header = Secret(f"Bearer {credential.registry_token.reveal()}")
            self._tokens[scopes] = _Token(header, math.inf)
            return Authorization(header=header, scopes=scopes, fresh=True)
        answer = None
        if credential is not None and credential.identity_token:
            answer = await self._ask(_oauth_request(realm, service, scopes, credential.identity_token))
            if answer.status in {404, 405}:
                # Not every token server supports OAuth2: fall back to GET.
                answer = None
        if answer is None:
            answer = await self._ask(_get_request(realm, service, scopes, credential))
        host = urlsplit(realm).netloc
        if answer.status != 200:
            raise self._refused(answer, host, credential)
        token = _read_token(answer.body, host, self._clock(), self._endpoint.registry)
        self._tokens[scopes] = token
        return Authorization(header=token.header, scopes=scopes, fresh=True)

    async def _known_credential(self, scopes: tuple[str, ...]) -> Credential | None:
        repository = scopes[0].split(":")[1] if scopes else ""
        if repository not in self._credentials:
            registry = self._endpoint.registry
            words = f"registry {registry}: its credentials are not read yet; does a credential helper wait for you?"
            timer = asyncio.get_running_loop().call_later(_TOLD_AFTER_S, self._tell, words)
            try:
                # A credential helper is a program that may prompt the user, so run it off the event loop.
                self._credentials[repository] = await asyncio.to_thread(self._source.credentials, registry, repository)
            finally:
                timer.cancel()
        return self._credentials[repository]

    def _no_credentials(self) -> RegistryError:
        registry = self._endpoint.registry
        return RegistryError(
            f"registry {registry} asks for credentials, and none are stored",
            hint=login_hint(registry),
            code=RegistryCode.UNAUTHORIZED,
            registry=registry,
        )

    def _refused(self, answer: TokenAnswer, host: str, credential: Credential | None) -> RegistryError:
        registry = self._endpoint.registry
        identity = f"as {credential.username}" if credential and credential.username else "anonymously"
        if credential and credential.identity_token:
            identity = "with an identity token"
        return refusal(
            answer.status, answer.body, doing=f"get a token for {registry} from {host} {identity}", registry=registry
        )


def _basic_header(credential: Credential) -> Secret:
    pair = f"{credential.username}:{credential.password.reveal()}"
    return Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")


def _oauth_request(realm: str, service: str, scopes: tuple[str, ...], identity: Secret) -> TokenRequest:
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": identity.reveal(),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return TokenRequest(url=realm, headers=headers, form=urlencode(form).encode())


def _get_request(realm: str, service: str, scopes: tuple[str, ...], credential: Credential | None) -> TokenRequest:
    has_password = credential is not None and bool(credential.password)
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    query.append(("client_id", _CLIENT_ID))
    if credential is not None and has_password:
        query.append(("account", credential.username))
    headers = {"Authorization": _basic_header(credential).reveal()} if credential is not None and has_password else {}
    separator = "&" if urlsplit(realm).query else "?"
    return TokenRequest(url=f"{realm}{separator}{urlencode(query)}", headers=headers)


def _read_token(body: bytes, host: str, now: float, registry: str) -> _Token:
    answer: dict[str, Any] = {}
    with contextlib.suppress(RegistryError):
        answer = read_json(body, f"the token from {host}")
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(f"{host} answered, but sent no token", code=RegistryCode.NO_REGISTRY, registry=registry)
    expires_in = answer.get("expires_in")
    seconds = float(expires_in) if isinstance(expires_in, int | float) else _MIN_TOKEN_LIFE_S
    return _Token(Secret(f"Bearer {token}"), now + max(seconds, _MIN_TOKEN_LIFE_S) - _EXPIRY_MARGIN_S)
