"""A host's keys in OpenSSH's known_hosts files, and how host keys are printed."""

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
class Record:
    """The keys of one host in known_hosts."""

    keys: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()

    def verdict(self, key: HostKey) -> Verdict:
        if any(key.blob == other.blob for other in self.revoked):
            return Verdict.REVOKED
        if any(key.blob == other.blob for other in self.keys):
            return Verdict.KNOWN
        return Verdict.CHANGED if self.keys else Verdict.UNKNOWN


def on_record(route: Route) -> Record:
    """Return the entries for this host, by its name or HostKeyAlias. Files that cannot be read are skipped."""
    bare = (route.alias or route.host).lower()
    # As in ssh: an alias is looked up unchanged, a name as `[name]:port` where the port is not 22.
    name = bare if route.alias or route.port == PORT else f"[{bare}]:{route.port}"
    keys: list[HostKey] = []
    revoked: list[HostKey] = []
    for path in route.known_hosts:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for marker, key in _entries(text, name):
            # Skip keys of certificate authorities: a host with a certificate also has a plain host key.
            if marker != "@cert-authority":
                (revoked if marker == "@revoked" else keys).append(key)
    return Record(tuple(keys), tuple(revoked))


def parse_key(line: str) -> HostKey | None:
    """Return the key from `TYPE BASE64`; None where the text is not a key."""
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
