"""Connection failures to a registry: the only place where the HTTP client's exceptions become archloom's errors."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from coordinator import deadlines
from coordinator.connect_errors import system_error
from coordinator.errors import RegistryCode, RegistryError
from coordinator.registry.endpoint import Endpoint
from coordinator.registry.refusals import speaks_http, untrusted

# OpenSSL's reasons where a server answers a TLS handshake with plain HTTP: the first in 3.0 and 4.0, the second in 3.2
# (https://github.com/urllib3/urllib3/pull/3271). HTTP_REQUEST is what a *server* reports of a client without TLS.
_PLAIN_HTTP_REASONS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})


class RetryableFailure(Exception):  # noqa: N818 - not an error yet: another try may succeed
    """A failed try after which another may succeed. Not raised outside this package.

    `error` is the error for the user where no try follows, `after` the seconds the registry asks to wait. `is_silence`:
    it took a whole deadline, so that a quick try would not follow.
    """

    def __init__(self, error: RegistryError, after: float = 0.0, *, is_silence: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.after = after
        self.is_silence = is_silence


@contextmanager
def translated(doing: str, url: str, endpoint: Endpoint, seconds: float = deadlines.REGISTRY_ANSWER) -> Iterator[None]:
    """Turn the HTTP client's exceptions into archloom's errors, or RetryableFailure where another try may succeed.

    So does a TimeoutError of the block, whose deadline is `seconds`.
    A failure to connect is a RetryableFailure with code `unreachable`, a broken connection one with `unavailable`.
    """
    import httpx2

    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        _raise_not_connected(error, doing, url, endpoint)
    except (httpx2.TransportError, TimeoutError) as error:
        if isinstance(error, TimeoutError):
            reason = f"no answer in {seconds:.0f} s"
        elif isinstance(error, httpx2.TimeoutException):
            reason = "the registry stopped answering"
        else:
            reason = "the connection broke"
        is_silence = isinstance(error, TimeoutError | httpx2.TimeoutException)
        broken = RegistryError(
            f"cannot {doing}: {reason}",
            hint="the registry may be overloaded",
            code=RegistryCode.UNAVAILABLE,
            registry=endpoint.registry,
            waited=seconds if is_silence else 0.0,
        )
        raise RetryableFailure(broken, is_silence=is_silence) from error
    except (httpx2.DecodingError, httpx2.InvalidURL) as error:
        raise RegistryError(
            f"cannot {doing}: the response cannot be read: {error}",
            code=RegistryCode.NO_REGISTRY,
            registry=endpoint.registry,
        ) from error


def _raise_not_connected(error: BaseException, doing: str, url: str, endpoint: Endpoint) -> NoReturn:
    causes = list(_causes(error))
    own = endpoint.owns(url)
    for cause in causes:
        if own and isinstance(cause, ssl.SSLCertVerificationError):
            raise untrusted(endpoint.registry, cause, endpoint.ca) from error
        if own and isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN_HTTP_REASONS:
            raise speaks_http(endpoint.registry) from error
    address = endpoint.url if own else url.partition("?")[0]
    unreachable = RegistryError(
        f"cannot {doing}: {connection_reason(error)} ({address})",
        hint="is the address right, and is the registry running?",
        code=RegistryCode.UNREACHABLE,
        registry=endpoint.registry,
    )
    raise RetryableFailure(unreachable) from error


def connection_reason(error: BaseException) -> str:
    """Return why a connection could not be made, in plain words."""
    causes = list(_causes(error))
    for cause in causes:
        match system_error(cause):
            case ssl.SSLCertVerificationError(verify_message=words):
                return f"its certificate is not trusted: {words}"
            case ssl.SSLError():
                return "the server does not speak TLS"
            case socket.gaierror():
                return "the name does not resolve"
            case ConnectionRefusedError():
                return "connection refused"
            case TimeoutError():
                return f"no answer within {deadlines.REGISTRY_CONNECT:.0f} s"
            case OSError(strerror=str(words)) if words:
                return words.lower()
            case _:
                continue
    return str(causes[0]) or "no connection"


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        if isinstance(current, BaseExceptionGroup):
            for inner in current.exceptions:
                yield from _causes(inner)
        current = current.__cause__ or current.__context__
