"""Build ids: one digest of everything a job's result depends on. A child with the same build id can be reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from coordinator.domain.image.platforms import Platform

# Incremented whenever the same inputs must give another id: the builder behaves differently, or a field means something
# else. Images of format 1 may have empty files in place of files that the SSH user of a board could not open. Up to
# format 2 the whole context counted, and every image had labels of archloom; from 3 on only what instructions take of
# the context counts, and the pin's name says which build an image is of.
_FORMAT = 3
# BuildKit passes these to RUN without an ARG, in upper or lower case, and excludes them from its cache keys.
# https://docs.docker.com/reference/dockerfile/#predefined-args
_PROXIES = frozenset({"ALL_PROXY", "FTP_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})


class EntryKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEntry:
    """One file, folder or symbolic link of a context.

    `path` is relative, with `/`; bytes that are not UTF-8 are surrogates in it (`surrogateescape`). `mode` is the
    permission bits, `mtime_ns` the modification time. A file has `size` in bytes and `digest` (64 hex digits); a link
    has its target in `link`. `hard_link` is the same for all names of one file in the context: the path that sorts
    first among them; it is empty where the context has one name of the file.
    """

    path: str
    kind: EntryKind
    mode: int
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""
    link: str = ""
    hard_link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """Everything the result of a job depends on, and nothing about the host that runs the job.

    `context` is a `context_digest`; `dockerfile` is its text as the user wrote it. `bases` are the digests of its base
    images, one per use in file order: the child's for a use on the target platform, the index's for a use on the build
    platform. `frontend` is the digest of the `# syntax` image; `secrets` are ids, never values. `nonce` is the run's
    where the result may depend on anything else, and empty otherwise. A build argument or label has the value `None`
    where its value does not count.
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
    """Return 64 hex digits: sha256 over the inputs as canonical JSON. The order of mappings does not matter."""
    fields = {**asdict(inputs), "platform": str(inputs.platform), "secrets": sorted(set(inputs.secrets))}
    return hashlib.sha256(_canonical({"format": _FORMAT, **fields})).hexdigest()


def counted(values: Mapping[str, str], volatile: Collection[str]) -> dict[str, str | None]:
    """Return build arguments or labels as a build id counts them: the values of volatile ones become `None`.

    Their names still count: a target without a volatile `BUILD_DATE` must not reuse an image built with an arbitrary
    date.
    """
    return {name: None if name in volatile else value for name, value in values.items()}


def without_proxies(build_args: Mapping[str, str], declared: Collection[str]) -> dict[str, str]:
    """Return the build arguments without proxy settings, which affect a result only where an ARG declares them."""
    return {name: value for name, value in build_args.items() if name.upper() not in _PROXIES or name in declared}


def context_digest(entries: Iterable[ContextEntry]) -> str:
    """Return 64 hex digits over path, kind, mode, content or link target, and hard link of every entry, in any order.

    Modification times are excluded: a fresh clone of the same commit has the same digest.
    """
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.path):
        digest.update(_line(entry))
    return digest.hexdigest()


def _line(entry: ContextEntry) -> bytes:
    """Return path, kind, mode, content, target and hard link as a JSON list.

    Joined here, because `json` takes eight times as long for a list as for its strings. Kind and digest have no
    character that JSON escapes.
    """
    # Only where there is one: a context without hard links keeps the digest that it always had.
    hard_link = f",{json.dumps(entry.hard_link)}" if entry.hard_link else ""
    path, link = json.dumps(entry.path), json.dumps(entry.link)
    return f'[{path},"{entry.kind}",{entry.mode},"{entry.digest}",{link}{hard_link}]\n'.encode("ascii")


def _canonical(value: object) -> bytes:
    # ASCII only: names that are not UTF-8 contain surrogates, which JSON can escape but UTF-8 cannot encode.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
