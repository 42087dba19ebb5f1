"""HTTP to one registry: authorization, checked redirects, retries, and archloom's own errors.

A `Request` is replayable: its body is bytes or a function that returns a new stream of them. `open_once` makes one try;
`retry` repeats an operation that failed because of the network or a busy registry. Source of the retry rules:
containers/image `docker_client.go`, distribution-spec.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from coordinator import __version__, deadlines
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.auth import Authenticator, CredentialSource, TokenAnswer, TokenRequest
from coordinator.registry.endpoint import Endpoint, is_loopback, system_tls
from coordinator.registry.faults import RetryableFailure, translated
from coordinator.registry.http_policy import (
    MAX_REDIRECTS,
    MAX_RENEWALS,
    RETRYABLE_STATUSES,
    credentials_for,
    is_challenge,
    is_html,
    is_redirect,
    is_web_page,
    redirects_to_own_https,
    retry_after,
)
from coordinator.registry.refusals import (
    may_speak_https,
    no_registry,
    reads_while_written,
    redirects_to_https,
    refusal,
)
from coordinator.registry.silence import Silence

if TYPE_CHECKING:
    import httpx2

_log = logging.getLogger("archloom.registry")

Body = Callable[[], AsyncGenerator[bytes, None]]
T = TypeVar("T")

# A failure that lasts longer is waited for by the run (`run/registry_patience.py`).
MAX_TRIES = 3
_MAX_ANSWER_BYTES = 1024 * 1024
_FIRST_ERROR_STATUS = 400
# 401 carries a challenge; 404 is a blob or a tag that does not exist yet.
_USUAL_ERROR_STATUSES = frozenset({401, 404})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `doing` completes "cannot …" in errors; `accepted` are the statuses that are not a refusal."""

    doing: str
    method: str
    url: str
    accepted: tuple[int, ...]
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """A small response, its body read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Transport:
    """A connection pool to one registry. `random` (0 to 1) and `sleep` determine the pauses between tries.

    `tell` gets a line for the user where the registry is silent for 3 s or a try has failed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        source: CredentialSource,
        *,
        random: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.endpoint = endpoint
        self.tell = tell
        self.silence = Silence(endpoint.registry, tell)
        self.auth = Authenticator(endpoint, source, self._ask_for_token, clock, tell)
        self._random = random
        self.sleep = sleep
        # By the scheme of the URL; None outside of `async with`.
        self._clients: dict[str, httpx2.AsyncClient] | None = None
        self._ping_lock = asyncio.Lock()
        self._answered_ping = False
        self._reached = False

    async def __aenter__(self) -> Self:
        self._clients = {}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clients, self._clients = self._clients or {}, None
        for client in clients.values():
            await client.aclose()

    async def ask(self, request: Request, *, limit: int = _MAX_ANSWER_BYTES) -> Answer:
        """Return the accepted answer to a request, its body read whole, after up to three tries.

        Raises RegistryError (`unreachable`, `unavailable`, `too_large`, or the registry's own refusal) and UsageError.
        """
        return await self.retry(lambda: self.ask_once(request, limit=limit))

    async def ask_once(self, request: Request, *, limit: int = _MAX_ANSWER_BYTES) -> Answer:
        """Do as `ask`, in one try. Raises RetryableFailure where another try may succeed."""
        async with aclosing(await self.open_once(request)) as response:
            answer = await self._answer(response, request.doing, limit)
        if answer.status == 200 and is_web_page(answer.headers) and (request.method == "HEAD" or is_html(answer.body)):
            raise self._no_registry(f"cannot {request.doing}: it sends a web page")
        return answer

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield a stream of the body of an accepted answer, undecoded. Only the opening is retried.

        Reading raises RegistryError `broken` where the connection breaks.
        """
        async with aclosing(await self.retry(lambda: self.open_once(request))) as response:
            yield self._chunks(response, request.doing)

    async def retry(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Return the result of an operation that may raise RetryableFailure, after up to three tries."""
        asked = 0.0
        for number in range(1, MAX_TRIES + 1):
            try:
                return await operation()
            except RetryableFailure as failure:
                asked += failure.after
                # Before the first response a wrong address is more likely than a network failure: do not retry.
                hopeless = failure.error.code == RegistryCode.UNREACHABLE and not self._reached
                hopeless = hopeless or failure.is_silence
                if number == MAX_TRIES or hopeless or asked > deadlines.ASKED_PAUSES:
                    raise failure.error from failure
                pause = self._pause(number, failure.after)
                self.silence.pausing(failure.error.message, pause)
                await self.sleep(pause)
        raise AssertionError("unreachable")

    async def open_once(self, request: Request) -> httpx2.Response:
        """Send a request in one try, and return the unread response, which the caller closes.

        Its status is one of `accepted`. Raises RetryableFailure where another try may succeed.
        """
        await self.ping()
        authorization = await self.auth.authorization(request.scopes)
        renewals = 0
        while True:
            response = await self._follow_redirects(request, authorization.headers)
            if response.status_code in request.accepted:
                return response
            async with aclosing(response):
                answer = await self._answer(response, request.doing, _MAX_ANSWER_BYTES)
            challenges = answer.headers.get("www-authenticate", "")
            renewed = None
            if renewals < MAX_RENEWALS and is_challenge(self.endpoint, answer.url, answer.status, challenges):
                renewed = await self.auth.renewed(authorization, challenges)
            if renewed is None:
                raise self._refusal(answer, request.doing)
            renewals += 1
            authorization = renewed

    def start_over(self) -> None:
        """Ask again how this registry authenticates, and read the credentials again, before the next request."""
        self._answered_ping = False
        self.auth.start_over()

    async def ping(self) -> None:
        """Ask once how this registry authenticates, by `GET /v2/`.

        A large body sent before the registry's challenge would break the connection.
        """
        async with self._ping_lock:
            if self._answered_ping:
                return
            doing = f"reach registry {self.endpoint.registry}"
            request = Request(doing=doing, method="GET", url=f"{self.endpoint.url}/v2/", accepted=())
            async with aclosing(await self._follow_redirects(request, {})) as response:
                answer = await self._answer(response, doing, _MAX_ANSWER_BYTES)
            match answer.status:
                case 401:
                    self.auth.learn(answer.headers.get("www-authenticate", ""))
                case 200 if is_web_page(answer.headers) and is_html(answer.body):
                    raise self._no_registry("it sends a web page for /v2/")
                case 200 | 403:
                    pass
                case 404:
                    raise self._no_registry("404 for /v2/")
                case 400 if self.endpoint.scheme == "http":
                    raise may_speak_https(self.endpoint.registry)
                case _:
                    raise self._refusal(answer, doing)
            self._answered_ping = True

    def _no_registry(self, answer: str) -> RegistryError:
        """Return the error for an answer that no registry gives."""
        return no_registry(self.endpoint.url, self.endpoint.registry, answer)

    async def _follow_redirects(self, request: Request, authorization: Mapping[str, str]) -> httpx2.Response:
        """Send one request and follow the redirects of its answer, where it has no body."""
        url = request.url
        for _ in range(MAX_REDIRECTS + 1):
            credentials = credentials_for(self.endpoint, url, authorization)
            response = await self._with_body(request, url, {**request.headers, **credentials})
            if request.body or not is_redirect(request.method, response.status_code):
                return response
            location = response.headers.get("location", "")
            await response.aclose()
            if redirects_to_own_https(self.endpoint, url, location):
                raise redirects_to_https(self.endpoint.registry)
            if not location:
                raise RegistryError(f"cannot {request.doing}: it redirects without an address", code="redirect")
            url = self.endpoint.followed(url, location)
        raise RegistryError(f"cannot {request.doing}: too many redirects", code="redirect")

    async def _with_body(self, request: Request, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        client = self._client(urlsplit(url).scheme)
        if isinstance(request.body, bytes):
            return await self._send_once(client, request, url, headers, request.body)
        # Close the body in any case: it may hold a connection of its own.
        async with aclosing(request.body()) as body:
            return await self._send_once(client, request, url, headers, body)

    def _client(self, scheme: str) -> httpx2.AsyncClient:
        """Return the client for URLs of this scheme, made when first needed."""
        if self._clients is None:
            raise AssertionError("the registry is used outside its `async with`")
        if scheme not in self._clients:
            self._clients[scheme] = self._new_client(scheme)
        return self._clients[scheme]

    def _new_client(self, scheme: str) -> httpx2.AsyncClient:
        import ssl
        from http.cookiejar import CookieJar, DefaultCookiePolicy

        import httpx2

        # Over http no certificate is needed, and none is trusted. An http registry may redirect to https elsewhere.
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if scheme == "http" else None
        context = plain or self.endpoint.tls or system_tls()
        return httpx2.AsyncClient(
            verify=context,
            # This enables only proxies from the environment: the client uses no netrc, and TLS is configured above.
            trust_env=not is_loopback(self.endpoint.host),
            timeout=httpx2.Timeout(deadlines.BODY_IDLE, connect=deadlines.REGISTRY_CONNECT, pool=None),
            headers={"User-Agent": f"archloom/{__version__}", "Accept-Encoding": "identity"},
            # Store no cookies: Harbor takes a request with its cookie for a browser's and refuses it.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    async def _send_once(
        self,
        client: httpx2.AsyncClient,
        request: Request,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncGenerator[bytes, None],
    ) -> httpx2.Response:
        import httpx2

        began = time.monotonic()
        with translated(request.doing, url, self.endpoint):
            if isinstance(body, bytes):
                message = client.build_request(request.method, url, headers=dict(headers), content=body)
                with self.silence.watched(request.doing):
                    async with asyncio.timeout(deadlines.REGISTRY_ANSWER):
                        response = await client.send(message, stream=True, follow_redirects=False)
            else:
                timeout = httpx2.Timeout(
                    deadlines.BODY_IDLE, connect=deadlines.REGISTRY_CONNECT, read=deadlines.BLOB_END, pool=None
                )
                with self.silence.watched(request.doing, moves=True) as moved:
                    content = _counted(body, moved)
                    message = client.build_request(
                        request.method, url, headers=dict(headers), content=content, timeout=timeout
                    )
                    response = await client.send(message, stream=True, follow_redirects=False)
        status = response.status_code
        is_usual = status < _FIRST_ERROR_STATUS or status in _USUAL_ERROR_STATUSES
        seconds = time.monotonic() - began
        level = logging.DEBUG if is_usual else logging.INFO
        _log.log(level, "%s %s: %d, %.3f s", request.method, _without_credentials(url), status, seconds)
        self._reached = True
        return response

    async def _ask_for_token(self, request: TokenRequest) -> TokenAnswer:
        doing = f"get a token for {self.endpoint.registry}"
        sent = Request(
            doing=doing,
            method="GET" if request.form is None else "POST",
            url=request.url,
            accepted=(),
            headers=request.headers,
            body=request.form or b"",
        )

        async def once() -> Answer:
            async with aclosing(await self._with_body(sent, sent.url, sent.headers)) as response:
                answer = await self._answer(response, doing, _MAX_ANSWER_BYTES)
            if answer.status in RETRYABLE_STATUSES:
                raise self._refusal(answer, doing)
            return answer

        answer = await self.retry(once)
        return TokenAnswer(answer.status, answer.body)

    async def _answer(self, response: httpx2.Response, doing: str, limit: int) -> Answer:
        body = bytearray()
        url, seconds = str(response.url), deadlines.SMALL_BODY
        with translated(doing, url, self.endpoint, seconds), self.silence.watched(doing) as moved:
            async with asyncio.timeout(seconds), aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    moved()
                    body += chunk
                    if len(body) > limit:
                        raise RegistryError(
                            f"cannot {doing}: the response is larger than {limit} bytes", code=RegistryCode.TOO_LARGE
                        )
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, bytes(body), str(response.url))

    async def _chunks(self, response: httpx2.Response, doing: str) -> AsyncIterator[bytes]:
        try:
            with translated(doing, str(response.url), self.endpoint):
                async with aclosing(response.aiter_raw()) as chunks:
                    while True:
                        with self.silence.watched(doing, moves=True):
                            chunk = await anext(chunks, b"")
                        if not chunk:
                            break
                        yield chunk
        except RetryableFailure as failure:
            error = failure.error
            raise RegistryError(
                error.message, hint=error.hint, code=RegistryCode.BROKEN, registry=error.registry
            ) from failure

    def _refusal(self, answer: Answer, doing: str) -> Exception:
        """Return the error of a refusal, or a RetryableFailure where another try may succeed."""
        after = retry_after(answer.headers)
        error = refusal(answer.status, answer.body, doing=doing, registry=self.endpoint.registry, after=after)
        if answer.status in RETRYABLE_STATUSES or reads_while_written(answer.body):
            return RetryableFailure(error, after)
        return error

    def _pause(self, number: int, after: float) -> float:
        jittered = deadlines.REGISTRY_PAUSE * 2.0 ** (number - 1) * (0.5 + self._random())
        return max(jittered, after)


async def _counted(body: AsyncGenerator[bytes, None], moved: Callable[[], None]) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a body; call `moved` whenever the next one is asked for, as the last one is sent then."""
    async for chunk in body:
        moved()
        yield chunk
    moved()


def _without_credentials(url: str) -> str:
    """Return the URL without user, password and query.

    The query of a redirect to an object store is a credential for the blob.
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
