"""What is on record about a host's key, by OpenSSH's known_hosts files, and how keys are told to people."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from coordinator.hosts.enrol.config import PORT, Route

_TYPES = {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA"}


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key. `bits` is 0 where only its text is known."""

    type: str
    blob: bytes
    bits: int = 0

    @property
    def fingerprint(self) -> str:
        return f"SHA256:{base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip('=')}"

    @property
    def line(self) -> str:
        """As the inventory and known_hosts write it."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @property
    def kind(self) -> str:
        return _TYPES.get(self.type, "ECDSA" if self.type.startswith("ecdsa-") else self.type)

    @property
    def file(self) -> str:
        """Where its host keeps it."""
        return f"/etc/ssh/ssh_host_{self.kind.lower()}_key.pub"

    def __str__(self) -> str:
        """As `ssh-keygen -lf` has it."""
        return f"{self.bits} {self.fingerprint} ({self.kind})" if self.bits else f"{self.fingerprint} ({self.kind})"


class Verdict(StrEnum):
    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Record:
    """The keys that known_hosts has for one host."""

    keys: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()

    def verdict(self, key: HostKey) -> Verdict:
        if any(key.blob == other.blob for other in self.revoked):
            return Verdict.REVOKED
        if any(key.blob == other.blob for other in self.keys):
            return Verdict.KNOWN
        return Verdict.CHANGED if self.keys else Verdict.UNKNOWN


def on_record(route: Route) -> Record:
    """What the files say about this host, by its name or its alias. A file that cannot be read says nothing."""
    bare = (route.alias or route.host).lower()
    # ssh asks for an alias as it stands, for a name with the port where that is not the usual one.
    name = bare if route.alias or route.port == PORT else f"[{bare}]:{route.port}"
    keys: list[HostKey] = []
    revoked: list[HostKey] = []
    for path in route.known_hosts:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for marker, key in _entries(text, name):
            # A certificate authority's key is no host's own; hosts with certificates have a plain key beside it.
            if marker != "@cert-authority":
                (revoked if marker == "@revoked" else keys).append(key)
    return Record(tuple(keys), tuple(revoked))


def parse_key(line: str) -> HostKey | None:
    """The key in `TYPE BASE64`; None where it is none."""
    words = line.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        return None
    return HostKey(words[0], blob)


def _entries(text: str, name: str) -> Iterator[tuple[str, HostKey]]:
    for line in text.splitlines():
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or not _matches(words[0], name):
            continue
        key = parse_key(f"{words[1]} {words[2]}")
        if key is not None:
            yield marker, key


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|"):
        return _is_hash_of(patterns, name)
    matched = False
    for pattern in patterns.lower().split(","):
        # Brackets are part of a name with a port here, not a set of letters.
        glob = re.sub(r"\[", "[[]", pattern.removeprefix("!"))
        if fnmatchcase(name, glob):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _is_hash_of(hashed: str, name: str) -> bool:
    """`|1|SALT|HMAC-SHA1`: the form of HashKnownHosts."""
    try:
        _, version, salt, digest = hashed.split("|")
        if version != "1":
            return False
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest))
    except ValueError:
        return False
