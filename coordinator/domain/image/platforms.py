"""Platforms: `os/arch[/variant]`, normalised by containerd's rules.

Source of the tables: containerd/platforms `database.go` and the image-spec's platform variants. The CPU of the
coordinator is never consulted: it has no influence on an image's platform.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.closest import closest
from coordinator.errors import UsageError

_ARCH_ALIASES = {"aarch64": "arm64", "x86_64": "amd64", "x86-64": "amd64"}
# These names imply a variant, which replaces a variant that is given with them.
_ALIASES_WITH_VARIANT = {"armhf": ("arm", "v7"), "armel": ("arm", "v6"), "i386": ("386", "")}
_DEFAULT_VARIANT = {"arm64": "v8", "amd64": "v1", "arm": "v7"}
_KNOWN_ARCHITECTURES = (
    "amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "mips64le", "mips64", "mipsle", "mips", "loong64",
)  # fmt: skip
_KNOWN_SYSTEMS = (
    "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos", "aix", "android",
    "ios", "plan9", "js", "wasip1", "zos",
)  # fmt: skip
# Architectures with numbered variants. Variants of other architectures name features, so any word is accepted.
_VARIANTS = {"arm": ("v5", "v6", "v7", "v8"), "arm64": ("v8", "v9"), "amd64": ("v1", "v2", "v3", "v4")}
# Names from Debian, Docker's official-image prefixes and uname, and the platform to suggest for each.
_SUGGESTIONS = {
    "arm64v8": "linux/arm64", "arm32v5": "linux/arm/v5", "arm32v6": "linux/arm/v6", "arm32v7": "linux/arm/v7",
    "armv5": "linux/arm/v5", "armv6": "linux/arm/v6", "armv6l": "linux/arm/v6", "armv7": "linux/arm/v7",
    "armv7l": "linux/arm/v7", "armv8": "linux/arm64", "arm64/v8": "linux/arm64",
    "x64": "linux/amd64", "x86": "linux/386", "i686": "linux/386",
    "x86_64": "linux/amd64", "aarch64": "linux/arm64", "armhf": "linux/arm/v7", "armel": "linux/arm/v6",
    "ppc64el": "linux/ppc64le", "arm": "linux/arm/v7",
}  # fmt: skip
_ARCH_ORDER = ("amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x")
_PART = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")


class Mode(StrEnum):
    """How a job runs on a host, best first."""

    NATIVE = "native"
    COMPAT = "compat"
    CROSS = "cross"
    EMULATED = "emulated"

    @property
    def rank(self) -> int:
        """0 for the best mode."""
        return _RANKS[self]


_RANKS = {mode: rank for rank, mode in enumerate(Mode)}


@dataclass(frozen=True, slots=True)
class Platform:
    """A normalised platform; equal platforms are equal values. Make one with `parse` or `normalise`."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def slug(self) -> str:
        """The platform inside a tag or a file name: `arm64`, `armv7`, with the OS as prefix where it is not linux."""
        head = "" if self.os == "linux" else f"{self.os}-"
        return f"{head}{self.architecture}{self.variant}"

    @property
    def sort_key(self) -> tuple[int, str, int, str, str]:
        """Common architectures first, others by name; higher variants first, so that the best match leads an index."""
        rank = _ARCH_ORDER.index(self.architecture) if self.architecture in _ARCH_ORDER else len(_ARCH_ORDER)
        number = re.match(r"v(\d+)", self.variant)
        return (rank, self.architecture, -int(number[1]) if number else 0, self.variant, self.os)


def normalise(os: str, architecture: str, variant: str = "") -> Platform:
    """Return the platform by containerd's rules. Unknown words are kept, in lower case."""
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    os = "darwin" if os == "macos" else os
    architecture = _ARCH_ALIASES.get(architecture, architecture)
    architecture, variant = _ALIASES_WITH_VARIANT.get(architecture, (architecture, variant))
    variant = re.sub(r"(\.0)+\Z", "", variant)
    if re.fullmatch(r"\d+(\.\d+)?", variant):
        variant = f"v{variant}"
    default = _DEFAULT_VARIANT.get(architecture, "")
    if architecture == "arm":
        # Clients read bare `arm` as v7, so a 32-bit Arm platform always names its variant.
        return Platform(os, architecture, variant or default)
    return Platform(os, architecture, "" if variant == default else variant)


def parse(text: str) -> Platform:
    """Parse a platform from user input, such as `linux/arm64` or `linux/arm/v7`.

    Raises UsageError with a suggestion where the text is not `os/arch[/variant]`, or where its operating system,
    architecture or variant is unknown.
    """
    parts = text.strip().lower().split("/")
    if len(parts) not in (2, 3) or not all(_PART.match(part) for part in parts):
        raise _unknown(text)
    platform = normalise(*parts)
    if platform.architecture not in _KNOWN_ARCHITECTURES or platform.os not in _KNOWN_SYSTEMS:
        raise _unknown(text)
    variants = _VARIANTS.get(platform.architecture, ())
    if variants and platform.variant and platform.variant.partition(".")[0] not in variants:
        hint = f"use a variant of {platform.architecture}: {', '.join(variants)}"
        raise UsageError(f"unknown platform '{text}'", hint=hint, code="platform")
    return platform


def parse_list(texts: tuple[str, ...]) -> tuple[Platform, ...]:
    """Parse platforms from repeated and comma-separated values, in the given order, without duplicates."""
    platforms: dict[Platform, None] = {}
    for text in texts:
        for word in text.split(","):
            if word.strip():
                platforms[parse(word)] = None
    return tuple(platforms)


def _unknown(text: str) -> UsageError:
    word = text.strip().lower()
    bare = word.removeprefix("linux/")
    suggestion = _SUGGESTIONS.get(word) or _SUGGESTIONS.get(bare)
    if suggestion is None:
        close = closest(bare, (*_KNOWN_ARCHITECTURES, "arm/v5", "arm/v6", "arm/v7"))
        suggestion = f"linux/{close}" if close else None
    hint = (
        f"did you mean {suggestion}?"
        if suggestion
        else "write os/arch[/variant], for example linux/arm64 or linux/arm/v7"
    )
    return UsageError(f"unknown platform '{text}'", hint=hint, code="platform")
