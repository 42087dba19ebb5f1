"""Errors for a registry's refusals: each has a code, the registry's own message, and a hint.

Source: distribution-spec "Error codes", and the deviations of Docker Hub, ECR, Harbor and GHCR. A body may have any
format: Docker Hub's 429 is plain text, a proxy's 502 is HTML.
"""

from __future__ import annotations

import json
import os
import ssl
from http import HTTPStatus

from coordinator import deadlines
from coordinator.domain.durations import span
from coordinator.domain.image.references import HUB, is_digest
from coordinator.errors import RegistryCode, RegistryError, UsageError
from coordinator.registry.http_policy import RETRYABLE_STATUSES, is_html

_MAX_MESSAGE_CHARS = 300
_MAX_DETAIL_DEPTH = 5
_MISSING_BLOB = "MANIFEST_BLOB_UNKNOWN"
_CODE_BY_WORD = {
    "UNAUTHORIZED": RegistryCode.UNAUTHORIZED,
    "DENIED": RegistryCode.DENIED,
    "NAME_UNKNOWN": "not_found",
    "MANIFEST_UNKNOWN": "not_found",
    "BLOB_UNKNOWN": "not_found",
    "NAME_INVALID": "invalid",
    "TAG_INVALID": "invalid",
    "MANIFEST_INVALID": "invalid",
    "DIGEST_INVALID": "invalid",
    "SIZE_INVALID": "invalid",
    _MISSING_BLOB: RegistryCode.BLOB_UNKNOWN,
    "BLOB_UPLOAD_UNKNOWN": RegistryCode.UPLOAD_LOST,
    "BLOB_UPLOAD_INVALID": RegistryCode.UPLOAD_LOST,
    "TOOMANYREQUESTS": RegistryCode.UNAVAILABLE,
    "UNSUPPORTED": "unsupported",
}
_CODE_BY_STATUS = {
    401: RegistryCode.UNAUTHORIZED, 403: RegistryCode.DENIED, 404: "not_found", 405: "unsupported",
    409: RegistryCode.IMMUTABLE, 412: RegistryCode.IMMUTABLE, 413: "too_large",
}  # fmt: skip


def refusal(status: int, body: bytes, *, doing: str, registry: str, after: float = 0.0) -> RegistryError:
    """Return the error for a response that is not a success. `doing` completes "cannot …".

    `after` is the seconds that its `Retry-After` asks for.
    """
    errors = _errors(body)
    words = [word for word, _ in errors]
    # distribution also reports a blob whose link it could not read as unknown, after the reading error.
    word = _MISSING_BLOB if _MISSING_BLOB in words else words[0] if words else ""
    code = _code(status, word)
    reason = "; ".join(message or word for word, message in errors) or _text(body) or _phrase(status, body)
    status_text = f"{status} {word}" if word else f"{status}"
    asks = f"; it asks to wait {span(after)}" if after > deadlines.ASKED_PAUSES else ""
    return RegistryError(
        f"cannot {doing}: {reason} ({status_text}){asks}",
        hint=_hint(code, status, registry),
        code=code,
        registry=registry,
        retry_after=after,
    )


def reads_while_written(body: bytes) -> bool:
    """Return whether the refusal of a manifest passes by itself: another push was writing the link of the same layer.

    The filesystem driver of distribution 2.8 truncates a layer's link file and then writes it. Measured: 186 of 3 000
    manifests were refused this way while three other pushes finished the same layer.
    """
    return {"DIGEST_INVALID", _MISSING_BLOB} <= {word for word, _ in _errors(body)}


def login_hint(registry: str) -> str:
    """Return the command that stores credentials for this registry."""
    return "docker login" if registry == HUB else f"docker login {registry}"


def speaks_http(registry: str) -> UsageError:
    """Return the error for a registry that answers a TLS handshake with plain http."""
    return UsageError(
        f"registry {registry} speaks plain http, and archloom uses http only where the inventory allows it",
        hint=_inventory_hint(registry, "{http: true}"),
        code="http",
    )


def may_speak_https(registry: str) -> UsageError:
    """Return the error for a registry that answers plain http with 400, as TLS servers do."""
    return UsageError(
        f"registry {registry} does not answer plain http as a registry does; it may speak https",
        hint=_inventory_hint(registry, "{ca: /path/to/ca.pem}"),
        code="https",
    )


def no_registry(url: str, registry: str, answer: str) -> RegistryError:
    """Return the error for a server that answers but is not a registry; `answer` says how it shows."""
    return RegistryError(
        f"{url} answers, but is not a registry: {answer}",
        hint="is the address right?",
        code=RegistryCode.NO_REGISTRY,
        registry=registry,
    )


def redirects_to_https(registry: str) -> UsageError:
    """Return the error for a server that sends clients of plain http to https on the same host."""
    return UsageError(
        f"registry {registry} redirects plain http to https",
        hint=f'take `http: true` of "{registry}" out of inventory.yaml; if its certificate is from your own authority: '
        + _inventory_hint(registry, "{ca: /path/to/ca.pem}"),
        code="https",
    )


def untrusted(registry: str, error: ssl.SSLCertVerificationError, ca: str) -> UsageError:
    """Return the error for a certificate that fails verification. `ca` is the authority in the inventory, if any."""
    why = error.verify_message
    match error.verify_code:
        case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            problem = f"is for another name: {why}"
            hint = f"use the name that is in the certificate, in the tag too; or give the registry one for {registry}"
        case 9 | 10:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
            problem = f"is not valid now: {why}"
            hint = "renew it on the registry, or set the clock of this machine"
        case _ if ca:
            problem = f"is not trusted: {why}"
            hint = f"the authority in {ca}, which inventory.yaml names for it, has not signed it"
        case _:
            problem = f"is not trusted: {why}"
            hint = _inventory_hint(registry, "{ca: /path/to/ca.pem}")
    return UsageError(f"the certificate of registry {registry} {problem}", hint=hint, code="certificate")


def _inventory_hint(registry: str, settings: str) -> str:
    return f'add to inventory.yaml:\nregistries:\n  "{registry}": {settings}'


def _code(status: int, word: str) -> str:
    # ECR answers 400 with `ImageTagAlreadyExistsException`; other registries' error codes contain IMMUTABLE.
    if "IMMUTABLE" in word or "AlreadyExists" in word:
        return RegistryCode.IMMUTABLE
    if status in RETRYABLE_STATUSES:
        return RegistryCode.UNAVAILABLE
    return (
        _CODE_BY_WORD.get(word)
        or _CODE_BY_STATUS.get(status)
        or (RegistryCode.UNAVAILABLE if status >= 500 else "refused")
    )


def _hint(code: str, status: int, registry: str) -> str:
    match code:
        case RegistryCode.UNAUTHORIZED:
            return login_hint(registry)
        case RegistryCode.DENIED:
            return f"the credentials do not allow this; as another user: {login_hint(registry)}"
        case "not_found":
            return f"it is missing, or these credentials may not see it: {login_hint(registry)}"
        case RegistryCode.IMMUTABLE:
            return "this repository does not let a tag move; publish under a new tag"
        case RegistryCode.TOO_LARGE:
            return (
                "the registry, or a proxy in front of it, takes no request of this size; "
                "with nginx: client_max_body_size 0"
            )
        case "unsupported":
            return "a pull-through cache or a read-only registry takes no push; allow writes there, or push to another"
        case RegistryCode.UNAVAILABLE if status == 429:
            return f"a rate limit; wait, or log in for a higher limit: {login_hint(registry)}"
        case RegistryCode.UNAVAILABLE:
            return "try again later: what is pushed already is not pushed again"
        case _:
            return ""


def _errors(body: bytes) -> list[tuple[str, str]]:
    """Return (code, message) of the first ten errors in a registry's JSON, an empty list for any other body."""
    try:
        errors = json.loads(body).get("errors")
    except (ValueError, AttributeError, RecursionError):
        return []
    entries = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return [(_clean(str(error.get("code", ""))), _clean(_message(error))) for error in entries[:10]]


def _message(error: dict[str, object]) -> str:
    message = str(error.get("message") or "")
    detail = error.get("detail")
    # MANIFEST_BLOB_UNKNOWN names the blob only in `detail`: as a string, or under `digest`.
    which = detail.get("digest") if isinstance(detail, dict) else detail
    if isinstance(which, str) and is_digest(which):
        return f"{message} {which}".strip()
    system = _system_error(detail)
    return f"{message}: {system}" if system else message


def _system_error(detail: object) -> str:
    """Return the system's words for what the storage of distribution reports: `No space left on device`.

    Go's `fs.PathError` as JSON, `{"Op": "write", "Path": "/x", "Err": 28}`, inside of a driver's error
    (distribution `registry/storage/driver/storagedriver.go`). A driver may also have words, such as S3's, as a text.
    """
    for _ in range(_MAX_DETAIL_DEPTH):
        match detail:
            case str():
                return detail
            case {"Err": int(number)}:
                return os.strerror(number)
            case dict():
                detail = detail.get("Enclosed") or detail.get("Err") or detail.get("Detail")
            case _:
                break
    return ""


def _text(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{")) else _clean(text.partition("\n")[0])


def _clean(text: str) -> str:
    # A registry's message is printed to a terminal: drop control characters.
    return "".join(letter for letter in text if letter.isprintable())[:_MAX_MESSAGE_CHARS]


def _phrase(status: int, body: bytes) -> str:
    if status < HTTPStatus.BAD_REQUEST and is_html(body):
        return "the answer is a web page"
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "the registry gave no reason"
