"""Unpinned network sources of `ADD`: two builds of the same inputs may differ because of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from coordinator.domain.dockerfile.instructions import Instruction, word_readings
from coordinator.domain.dockerfile.scopes import Scope, in_scope
from coordinator.domain.dockerfile.stages import Stage

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SCP = re.compile(r"[\w.-]+@[^/:\s]+:")
_GIT = re.compile(r"(?:git|ssh)://|https?://[^#?]*\.git(?:[#?]|\Z)", re.IGNORECASE)
_LEADING = re.compile(r"\$\{?(\w+)")
_COMMIT = re.compile(r"(?:#|[?&](?:commit|checksum)=)(?:[0-9a-f]{64}|[0-9a-f]{40})(?:[:&]|\Z)")
_HASH = re.compile(r"[0-9a-f]{64}\Z|[0-9a-f]{40}\Z")
# The algorithms of opencontainers/go-digest; BuildKit rejects any other text.
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z")


def is_remote(source: str) -> bool:
    """Return whether ADD may read this source from a server: a URL, or a Git repository as `user@host:path`."""
    return any(pattern.match(source) for pattern in (_URL, _SCP))


def network_reasons(chain: Sequence[Stage], scope: Scope) -> Iterator[tuple[int, str]]:
    """Yield line and reason for each unpinned ADD of the chain's last stage. Earlier stages only supply variables."""
    for instruction, readings in in_scope(chain, scope):
        if instruction.keyword == "add":
            reasons = [reason for values in readings for reason in _unpinned(instruction, scope, values)]
            yield from ((instruction.line, reason) for reason in dict.fromkeys(reasons))


def _unpinned(instruction: Instruction, scope: Scope, values: Mapping[str, str]) -> Iterator[str]:
    written = next((flag.value for flag in reversed(instruction.flags) if flag.name == "checksum"), "")
    checksum = scope.expand(written, values)
    for word in (word for words in word_readings(instruction) for word in words[:-1]):
        expanded = scope.expand(word, values)
        source = expanded.text
        if _GIT.match(source) or _SCP.match(source):
            if not _COMMIT.search(source) and not _HASH.match(checksum.text):
                yield f"ADD {source} names no commit"
        elif _URL.match(source):
            if not _DIGEST.match(checksum.text):
                yield f"ADD {source} has {_lacking(written, checksum.unset)}"
        elif (leading := _LEADING.match(word)) and leading[1] in expanded.unset:
            yield f"ADD {word} may be a URL: {leading[1]} has no value in the Dockerfile"


def _lacking(written: str, unset: Sequence[str]) -> str:
    if not written:
        return "no --checksum"
    return f"no value for --checksum={written}" if unset else f"no digest in --checksum={written}"
