"""Image references: `[registry/]repository[:tag][@digest]`, parsed as `docker` parses them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from coordinator.errors import UsageError

HUB = "docker.io"
_HUB_NAMES = (HUB, "index.docker.io", "registry-1.docker.io")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_HOST = re.compile(
    r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)"
    r"(?::(?P<port>[0-9]{1,5}))?\Z"
)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}\Z")
_MAX_REPOSITORY_CHARS = 255
_SHORT_DIGEST_CHARS = len("sha256:") + 12


@dataclass(frozen=True, slots=True)
class Reference:
    """An image by name. `tag` and `digest` are empty where the text has none."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """`registry/repository`, with Docker Hub spelled out."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """The reference in a manifest request: the digest where there is one, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        text = _familiar(self.repository) if self.registry == HUB else self.name
        text += f":{self.tag}" if self.tag else ""
        return text + (f"@{self.digest}" if self.digest else "")

    def with_tag(self, tag: str) -> Reference:
        return replace(self, tag=tag, digest="")

    def with_digest(self, digest: str) -> Reference:
        return replace(self, tag="", digest=digest)


def is_digest(text: str) -> bool:
    """Return whether this is a complete sha256 digest in canonical form."""
    return _DIGEST.match(text) is not None


def short(digest: str) -> str:
    """Return `sha256:` and the first 12 hex digits of a digest, for messages."""
    return digest[:_SHORT_DIGEST_CHARS]


def parse(text: str) -> Reference:
    """Parse a reference from user input. Raises UsageError naming the invalid part."""
    rest, at, digest = text.strip().partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, f"'{digest}' is not a sha256 digest", "write sha256: and 64 lower-case hex digits")
    if "://" in rest:
        raise _invalid(text, "a reference has no scheme", f"try {rest.partition('://')[2]}")
    registry, rest = _split_registry(rest)
    repository, tag = _split_tag(rest)
    if rest.endswith(":"):
        raise _invalid(text, "the tag is empty", "write name:tag")
    if tag and not _TAG.match(tag):
        raise _invalid(
            text,
            f"invalid tag '{tag}'",
            "a tag is up to 128 letters, digits, '_', '.' and '-', and does not start with '.' or '-'",
        )
    if registry and not _is_host(registry):
        raise _invalid(text, f"invalid registry '{registry}'", "write the registry as host[:port]")
    if not registry and _IMAGE_ID.match(repository):
        raise _invalid(text, "this is an image id", "name the image, for example nas.lan:5000/app:1.0")
    _check_repository(text, repository)
    if not registry or registry in _HUB_NAMES:
        return Reference(HUB, repository if "/" in repository else f"library/{repository}", tag, digest)
    return Reference(registry, repository, tag, digest)


def _check_repository(text: str, repository: str) -> None:
    if not repository:
        raise _invalid(text, "no repository is named", "write name:tag, for example nas.lan:5000/app:1.0")
    if not all(_COMPONENT.match(part) for part in repository.split("/")):
        hint = (
            "write the repository in lower case"
            if repository != repository.lower()
            else "use letters, digits, '.', '_' and '-', in parts joined by '/'"
        )
        raise _invalid(text, f"invalid repository '{repository}'", hint)
    if len(repository) > _MAX_REPOSITORY_CHARS:
        raise _invalid(text, "the repository name is longer than 255 characters", "")


def _is_host(registry: str) -> bool:
    match = _HOST.match(registry)
    return match is not None and (match["port"] is None or 0 < int(match["port"]) <= 65535)


def _familiar(repository: str) -> str:
    """Return a Docker Hub repository without `library/`, unless that would parse as something else."""
    short = repository.removeprefix("library/")
    if "/" in short or _IMAGE_ID.match(short):
        short = repository
    return f"{HUB}/{repository}" if _split_registry(short)[0] else short


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    # Docker's rule (distribution/reference): the part before the first slash is a registry if it looks like a host.
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return first, rest
    return "", text


def _split_tag(text: str) -> tuple[str, str]:
    head, colon, tag = text.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (text, "")


def _invalid(text: str, why: str, hint: str) -> UsageError:
    return UsageError(f"invalid reference '{text}': {why}", hint=hint, code="reference")
