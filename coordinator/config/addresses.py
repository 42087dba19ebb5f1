"""Parsers for host names, SSH targets, host keys and registry names."""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import IPv6Address

from coordinator.config import parsers
from coordinator.config.problems import found
from coordinator.domain.hosts.inventory import Address
from coordinator.domain.image import references
from coordinator.errors import UsageError

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
REGISTRY_PATTERN = r"^(localhost|[^/]*[.:][^/]*)$"
LOCAL = "local"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\$?\Z")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?\Z")
_FORMS = "expected a target such as ssh://pi5, pi@192.168.1.21, pi4.lan or local"


def host_name(value: str) -> str:
    """Return the inventory name of a host, as `--on`, logs and reports use it. Raises ValueError."""
    if not re.match(NAME_PATTERN, value):
        where = " — put the address behind it, for example pi5: pi@192.168.1.21" if re.search(r"[@:/]", value) else ""
        raise ValueError(f"{found(value)} cannot name a host: up to 63 letters, digits, '.', '_' and '-'{where}")
    return value


def target(value: object) -> Address:
    """Return the address of an SSH target. Raises ValueError, also for a password, which its message never repeats."""
    written = parsers.text(value)
    if written == LOCAL:
        return Address()
    scheme, separator, rest = written.rpartition("://")
    if separator and scheme.lower() != "ssh":
        raise ValueError(f"{found(f'{scheme}://')} is not a supported scheme — {_FORMS}")
    login, at, place = rest.rpartition("@")
    if ":" in login:
        raise ValueError("a password does not belong here — use an SSH key")
    if at and not _USER.match(login):
        raise ValueError(f"{found(login)} is not a user name in {found(written)}")
    host, port = _with_port(place.removesuffix("/")) if separator else _bare(written, place)
    if not (_HOST.match(host) or _is_ipv6(host)):
        raise ValueError(f"{_FORMS}, found {found(written)}")
    return Address(host, login, port)


def user(value: object) -> str:
    written = parsers.text(value)
    if not _USER.match(written):
        raise ValueError(f"{found(written)} is not a user name")
    return written


def host_key(value: object) -> str:
    """Return `SHA256:…`, or `TYPE BASE64` of an OpenSSH public key without its comment. Raises ValueError."""
    written = parsers.text(value)
    if _FINGERPRINT.match(written):
        return written.rstrip("=")
    words = written.split()
    if len(words) > 2 and _is_key(words[1], words[2]):
        raise ValueError(f"leave out the host: did you mean {found(f'{words[1]} {words[2]}')}?")
    if len(words) < 2 or not _is_key(words[0], words[1]):
        raise ValueError(f"expected SHA256:… or a line such as 'ssh-ed25519 AAAA…', found {found(written)}")
    return f"{words[0]} {words[1]}"


def registry(value: str) -> str:
    """Return a registry as image references name it: `host[:port]`; Docker Hub's other host names become `docker.io`.

    Raises ValueError.
    """
    bare = value.partition("://")[2] or value
    host = bare.partition("/")[0]
    if bare != value or host != value:
        http = ": {http: true}" if value.startswith("http://") else ""
        raise ValueError(f"expected a registry's host[:port], found {found(value)} — did you mean {host!r}{http}?")
    try:
        reference = references.parse(f"{value}/team/app")
    except UsageError as error:
        raise ValueError(f"expected a registry's host[:port], found {found(value)}") from error
    if reference.repository != "team/app":
        raise ValueError(f"{found(value)} alone is an account on Docker Hub — a registry has a '.' or a port")
    return reference.registry


def _with_port(place: str) -> tuple[str, int]:
    match = re.fullmatch(r"\[(?P<v6>[^\]]*)\](?::(?P<port6>.*))?|(?P<host>[^:\[\]]*)(?::(?P<port>.*))?", place)
    if not match:
        raise ValueError(f"{_FORMS}, found {found(f'ssh://{place}')}")
    host = match["v6"] or match["host"] or ""
    port = match["port6"] if match["v6"] else match["port"]
    return host, 0 if port is None else parsers.whole(port, 1, 65535)


def _bare(written: str, place: str) -> tuple[str, int]:
    if ":" in place and not _is_ipv6(place):
        suggestion = f" — did you mean ssh://{written}?" if re.search(r":\d+\Z", place) else ""
        raise ValueError(f"{_FORMS}, found {found(written)}{suggestion}")
    return place, 0


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return re.fullmatch(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?", host) is not None


def _is_key(kind: str, blob: str) -> bool:
    try:
        raw = base64.b64decode(blob, validate=True)
    except binascii.Error:
        return False
    # RFC 4253 section 6.6: the blob begins with the length and the name of its key type.
    return len(raw) > len(kind) + 8 and raw[: 4 + len(kind)] == len(kind).to_bytes(4, "big") + kind.encode()
