"""Address of a registry and rules for its use: scheme, certificates, and the URLs it may redirect to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from urllib.parse import SplitResult, urljoin, urlsplit

from coordinator.domain.causes import Cause
from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.references import HUB
from coordinator.errors import RegistryError, UsageError

_HUB_HOST = "registry-1.docker.io"
_PLAIN = "it is plain http"
_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`registry` is the name in references, `host` the host to connect to (without brackets), `tls` is `None` for http.

    `private`: the user vouches for this registry's network, because the host is loopback or a private address, or the
    inventory sets `http` or `ca` for it. Only a private registry may redirect to other private addresses.
    """

    registry: str
    scheme: str
    host: str
    port: int
    private: bool
    ca: str = ""
    http_hosts: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"

    def owns(self, url: str) -> bool:
        """Return whether this URL is on the registry itself (scheme, host, port), so that credentials may go there."""
        parts = urlsplit(url)
        return (parts.scheme, parts.hostname, _port(parts)) == (self.scheme, self.host.lower(), self.port)

    def followed(self, base: str, location: str) -> str:
        """Return the absolute URL of a `Location` header. Raises RegistryError `redirect` where following it is unsafe.

        A registry behind a proxy often sends its internal scheme or port: a location on the registry's host below
        `/v2/` gets the registry's own scheme and port.
        """
        try:
            url = urljoin(base, location)
        except ValueError as error:
            raise self._refused(location, "redirect", "it is not a URL") from error
        parts = self._checked(url, "redirect")
        if parts.hostname == self.host.lower() and parts.path.startswith("/v2/"):
            return parts._replace(scheme=self.scheme, netloc=self.authority).geturl()
        if parts.scheme == "http" and self.scheme == "https":
            raise self._refused(url, "redirect", "it leads from https to http")
        return url

    def realm(self, url: str) -> str:
        """Return the URL of the token server. Raises RegistryError `realm` where credentials must not be sent to it.

        Plain http is accepted only where the registry uses http itself: on its own host (go-containerregistry checks
        the same in `validateRealmURL`), and on a host for which the inventory allows http.
        """
        parts = self._checked(url, "realm")
        if parts.scheme == "http" and (self.scheme == "https" or not self._is_plain(parts)):
            raise self._refused(url, "realm", _PLAIN)
        return url

    def _is_plain(self, parts: SplitResult) -> bool:
        allowed = {host.lower() for host in self.http_hosts}
        return parts.hostname == self.host.lower() or not allowed.isdisjoint({parts.netloc.lower(), parts.hostname})

    def _checked(self, url: str, code: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            _port(parts)
        except ValueError as error:
            raise self._refused(url, code, "it is not a URL") from error
        if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
            raise self._refused(url, code, "it is not an http or https URL")
        if parts.username is not None:
            raise self._refused(f"{parts.scheme}://{parts.hostname}", code, "it contains a user name")
        if parts.hostname != self.host.lower() and not self.private and is_private(parts.hostname):
            raise self._refused(url, code, "a public registry must not lead to a private address")
        return parts

    def _refused(self, url: str, code: str, reason: str) -> RegistryError:
        address = url.partition("?")[0]
        destination = "its token server" if code == "realm" else "another address"
        plain = code == "realm" and reason == _PLAIN and self.scheme == "http"
        host = address.partition("://")[2].partition("/")[0]
        return RegistryError(
            f"{self.registry} redirects to {destination}, {address!r}, which is refused: {reason}",
            hint=f'to allow it, add to inventory.yaml:\nregistries:\n  "{host}": {{http: true}}' if plain else "",
            code=code,
            registry=self.registry,
        )


def resolve(settings: RegistrySettings) -> Endpoint:
    """Return the endpoint of these settings. Plain http needs `http: true`, or loopback without a `ca`, as in Docker.

    Raises UsageError for an invalid host and for a `ca` that cannot be read.
    """
    address = _HUB_HOST if settings.host == HUB else settings.host
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _no_host(settings.host) from error
    if not host or parts.path or parts.query or parts.username is not None or port == 0:
        raise _no_host(settings.host)
    http = settings.http or (is_loopback(host) and not settings.ca)
    scheme = "http" if http else "https"
    return Endpoint(
        registry=settings.host,
        scheme=scheme,
        host=host,
        port=port or _DEFAULT_PORT[scheme],
        private=settings.http or bool(settings.ca) or is_private(host),
        ca=settings.ca,
        http_hosts=settings.http_hosts,
        tls=None if http else tls_context(settings),
    )


def tls_context(settings: RegistrySettings) -> ssl.SSLContext:
    """Return a TLS context with the system's certificates and the registry's `ca`.

    Raises UsageError for an unusable `ca`.
    """
    if not settings.ca:
        return system_tls()
    context = _new_tls()
    try:
        context.load_verify_locations(settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"registry {settings.host}: cannot use the certificate file {settings.ca!r}: {error.strerror or error}",
            hint="`ca` is a PEM file with the certificate of the registry's certificate authority",
            code="ca",
        ) from error
    return context


@cache
def system_tls() -> ssl.SSLContext:
    """Return the TLS context with the system's certificates alone. All share it: they take 25 ms to load."""
    return _new_tls()


def _new_tls() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()


def is_loopback(host: str) -> bool:
    """Return whether `host` is a literal loopback address or `localhost`. Other names are not resolved."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(host: str) -> bool:
    """Return whether `host` is loopback or a literal address that is not globally routable."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return is_loopback(host)


def _port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORT.get(parts.scheme)


def _no_host(text: str) -> UsageError:
    return UsageError(
        f"'{text}' is not a registry", hint="a registry is host[:port], for example nas.lan:5000", code=Cause.REGISTRY
    )
