"""Reads a host's keys in OpenSSH's known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), and prints host keys.

As ssh does, a line that is no entry is passed over; asyncssh's reader refuses the whole file for one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from coordinator.domain.visible import file_word
from coordinator.errors import LostError
from coordinator.hosts.ssh.route import PORT, Route
from coordinator.regular_files import read_file

_TYPES = {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA"}


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key. `bits` is 0 for a key parsed from text."""

    type: str
    blob: bytes
    bits: int = 0

    @property
    def fingerprint(self) -> str:
        return f"SHA256:{base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip('=')}"

    @property
    def line(self) -> str:
        """`TYPE BASE64`, as in the inventory and known_hosts."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @property
    def kind(self) -> str:
        return _TYPES.get(self.type, "ECDSA" if self.type.startswith("ecdsa-") else self.type)

    @property
    def file(self) -> str:
        """The default path of its public key file on the host."""
        return f"/etc/ssh/ssh_host_{self.kind.lower()}_key.pub"

    def __str__(self) -> str:
        """Return the key in the form of `ssh-keygen -lf`, without its comment."""
        return f"{self.bits} {self.fingerprint} ({self.kind})" if self.bits else f"{self.fingerprint} ({self.kind})"


class Verdict(StrEnum):
    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class RecordedKeys:
    """The entries for one host in known_hosts.

    `elsewhere` are the keys of the same name without its port, where the name with the port has none: one of them is
    trusted, and another key is no change (check_host_key() in OpenSSH's sshconnect.c).
    """

    keys: tuple[HostKey, ...] = ()
    authorities: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()
    elsewhere: tuple[HostKey, ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the trusted keys: a host has keys of several types, and only the same type can be compared."""
        return tuple(key.type for key in (*self.keys, *self.elsewhere))

    def verdict(self, key: HostKey) -> Verdict:
        if any(key.blob == other.blob for other in self.revoked):
            return Verdict.REVOKED
        if any(key.blob == other.blob for other in (*self.keys, *self.elsewhere)):
            return Verdict.KNOWN
        return Verdict.CHANGED if self.keys else Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The known_hosts files of a route. Each entry is its marker, its patterns and its key."""

    route: Route
    entries: tuple[tuple[str, str, HostKey], ...]

    def record(self, address: str = "") -> RecordedKeys:
        """Return the entries for the host by its name or HostKeyAlias; where it has no alias, also by this address."""
        route = self.route
        # As in ssh: an alias is looked up unchanged, a name as `[name]:port` where the port is not 22.
        bare = [route.alias] if route.alias else [name.lower() for name in (route.host, address) if name]
        if route.alias or route.port == PORT:
            return self._record(bare)
        record = self._record([f"[{name}]:{route.port}" for name in bare])
        if record.keys or record.authorities:
            return record
        plain = self._record(bare)
        return RecordedKeys((), plain.authorities, (*record.revoked, *plain.revoked), plain.keys)

    def _record(self, names: list[str]) -> RecordedKeys:
        found: dict[str, list[HostKey]] = {"": [], "@cert-authority": [], "@revoked": []}
        for marker, patterns, key in self.entries:
            if marker in found and any(_matches(patterns, name) for name in names):
                found[marker].append(key)
        return RecordedKeys(*(tuple(keys) for keys in found.values()))


def read_known_hosts(route: Route) -> KnownHosts:
    """Return the entries of the route's known_hosts files. Raises LostError `known_hosts` for one it may not read."""
    entries: list[tuple[str, str, HostKey]] = []
    for path in route.known_hosts:
        try:
            text = read_file(path).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except OSError as error:
            message = f"cannot read {path}: {error.strerror}"
            raise LostError(
                message, hint=f"make it readable: chmod u+r {file_word(path)}", code="known_hosts"
            ) from error
        entries += _entries(text)
    return KnownHosts(route, tuple(entries))


def parse_key(line: str) -> HostKey | None:
    """Return the key from `TYPE BASE64`; None where the text is not a key."""
    words = line.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        return None
    return HostKey(words[0], blob)


def _entries(text: str) -> Iterator[tuple[str, str, HostKey]]:
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        key = parse_key(" ".join(words[1:3]))
        if key is not None:
            yield marker, words[0], key


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|"):
        return _is_hash_of(patterns, name)
    matched = False
    for pattern in patterns.lower().split(","):
        # Escape brackets: in known_hosts they enclose a name with a port, in fnmatch a character set.
        glob = re.sub(r"\[", "[[]", pattern.removeprefix("!"))
        if fnmatchcase(name, glob):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _is_hash_of(hashed: str, name: str) -> bool:
    """Return whether `hashed`, in the form `|1|SALT|HMAC-SHA1` of HashKnownHosts, is the hash of this name."""
    try:
        _, version, salt, digest = hashed.split("|")
        if version != "1":
            return False
        computed = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(computed, base64.b64decode(digest))
    except ValueError:
        return False
