"""HTTP decisions that the registry client and the broker share: redirects, challenges, credentials, retries.

The sending stays with each of them, because the client can send a body again and the broker, which relays one, cannot.
Which URLs may be followed at all, and which are the registry's own, `Endpoint` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from coordinator.registry.endpoint import Endpoint

# RFC 9110, section 15.4: 300 offers a choice, 304 is about caches.
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 4
# For an expired token, and for scopes that the registry names. `Authenticator` says earlier that a refusal is final.
MAX_RENEWALS = 3
# 499 is nginx's status for a client that left, 522 Cloudflare's for an origin that it cannot connect to.
RETRYABLE_STATUSES = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
# distribution-spec, "Pushing a blob in chunks": 202 opens an upload and accepts a chunk, 201 ends it.
# Registries deviate: ECR accepts a chunk with 201.
UPLOAD_OPENED = (202,)
CHUNK_ACCEPTED = (201, 202, 204)
UPLOAD_ENDED = (200, 201, 204)


def is_redirect(method: str, status: int) -> bool:
    """Return whether a request *without a body* is sent again, with the same method, to its answer's `Location`.

    303 asks for a GET of something else (RFC 9110, section 15.4.4): for any method but GET and HEAD it is a refusal.
    """
    return status in _REDIRECT_STATUSES and (status != HTTPStatus.SEE_OTHER or method in {"GET", "HEAD"})


def redirects_to_own_https(endpoint: Endpoint, url: str, location: str) -> bool:
    """Return whether a registry that is asked over plain http wants to be asked the same over https."""
    asked, target = urlsplit(url), urlsplit(urljoin(url, location))
    return (asked.scheme, target.scheme, target.hostname, target.path) == (
        "http",
        "https",
        endpoint.host.lower(),
        asked.path,
    )


def is_challenge(endpoint: Endpoint, url: str, status: int, challenges: str) -> bool:
    """Return whether this answer asks for other credentials. `challenges` is its `WWW-Authenticate` header, or `""`.

    403 with a challenge is a token whose scope does not suffice (RFC 6750, section 3.1). Only the registry itself may
    ask, not a host that it redirects to.
    """
    asks = status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and bool(challenges))
    return asks and endpoint.owns(url)


def credentials_for(endpoint: Endpoint, url: str, authorization: Mapping[str, str]) -> Mapping[str, str]:
    """Return the authorization headers to send to this URL: none where it is not on the registry itself.

    All other headers of a request go wherever it is redirected: none of them is secret.
    """
    return authorization if endpoint.owns(url) else {}


def is_web_page(headers: Mapping[str, str]) -> bool:
    """Return whether this answer is a page for people: what answers is then no registry, or hides one."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html"


def is_html(body: bytes) -> bool:
    """Return whether this body is a web page. Flask, and so Quay, sends its other answers as `text/html` too."""
    return body.lstrip()[:1] == b"<"


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of a `Retry-After` header, else 0. A date counts from the answer's `Date`, or from now."""
    value = headers.get("retry-after", "")
    if value.isdecimal():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
        sent = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, (until - sent).total_seconds()) if until.tzinfo and sent.tzinfo else 0.0
