"""Build ids: what a job's result depends on, as one digest. Same id, same image; it names what can be reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from coordinator.domain.image.platforms import Platform

# Changed whenever the same inputs have to give another id: a builder that behaves otherwise, or another meaning here.
# Images of format 1 may have empty files where a board's login could not open them.
_FORMAT = 2
# BuildKit hands these to RUN without an ARG, in any case of letters, and keeps them out of its cache's keys.
# https://docs.docker.com/reference/dockerfile/#predefined-args
_PROXIES = frozenset({"ALL_PROXY", "FTP_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})


class EntryKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEntry:
    """One file, folder or symbolic link of a context.

    `path` is relative, with `/`; bytes that are not UTF-8 are in it as surrogates (`surrogateescape`). `mode` is the
    permission bits. Files have `size`, `mtime_ns` and a `digest` (64 hex digits), links have `link`.
    """

    path: str
    kind: EntryKind
    mode: int
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """Everything the result of a job depends on, and nothing about the host it runs on.

    `context` is a `context_digest`; `dockerfile` its text as the user wrote it; `bases` are the digests behind its uses
    of images, in the file's order: the child's where it is wanted for the target's platform, the index's where for the
    build platform's. `frontend` is the digest behind `# syntax`, `secrets` are ids, never values. `nonce` is the run's
    where something may differ that is not in here, and empty otherwise. An argument or label whose value is `None`
    has one that does not count.
    """

    context: str
    dockerfile: str
    stage: str
    platform: Platform
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    named_contexts: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    frontend: str = ""
    secrets: tuple[str, ...] = ()
    nonce: str = ""


def build_id(inputs: BuildInputs) -> str:
    """64 hex digits: sha256 over the inputs as canonical JSON. The order of mappings does not matter."""
    fields = {**asdict(inputs), "platform": str(inputs.platform), "secrets": sorted(set(inputs.secrets))}
    return hashlib.sha256(_canonical({"format": _FORMAT, **fields})).hexdigest()


def counted(values: Mapping[str, str], volatile: Collection[str]) -> dict[str, str | None]:
    """Arguments or labels as an id knows them: of the volatile ones, that they are given and not what.

    Their names stay in it: who does not call `BUILD_DATE` volatile is not given an image with anybody's date.
    """
    return {name: None if name in volatile else value for name, value in values.items()}


def without_proxies(build_args: Mapping[str, str], declared: Collection[str]) -> dict[str, str]:
    """The arguments a result can depend on: how a build reaches the network is none, unless an ARG asks for it."""
    return {name: value for name, value in build_args.items() if name.upper() not in _PROXIES or name in declared}


def pin_tag(build_id: str, platform: Platform) -> str:
    """The immutable tag that keeps this build's child, and by which it is found again."""
    return f"archloom-{build_id[:16]}-{platform.slug}"


def context_digest(entries: Iterable[ContextEntry]) -> str:
    """64 hex digits over path, kind, mode and content or target of every entry, in whatever order they come.

    Times are not in it: a fresh clone of the same commit is the same context.
    """
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.path):
        digest.update(_canonical([entry.path, entry.kind, entry.mode, entry.digest, entry.link]))
        digest.update(b"\n")
    return digest.hexdigest()


def _canonical(value: object) -> bytes:
    # ASCII alone, so that names which are not UTF-8 (surrogates here) have a spelling too.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
