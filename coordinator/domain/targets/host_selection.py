"""The hosts that the user selects with `--on` and `--emulate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.targets.target import Emulate
from coordinator.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSelection:
    """`on` are the hosts named for every platform, empty for any; `pinned` is the host named for one platform."""

    emulate: Emulate = Emulate.AUTO
    on: tuple[str, ...] = ()
    pinned: Mapping[Platform, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every named host, without duplicates."""
        return tuple(dict.fromkeys((*self.on, *self.pinned.values())))

    @property
    def words(self) -> tuple[str, ...]:
        """The values of `--on` from which `read_on` reads the same hosts."""
        return (*self.on, *(f"{platform}={host}" for platform, host in self.pinned.items()))

    def on_for(self, platform: Platform) -> tuple[str, ...]:
        """Return the hosts that may build this platform, empty for any."""
        return (self.pinned[platform],) if platform in self.pinned else self.on

    def check_platforms(self, platforms: Sequence[Platform]) -> None:
        """Raise UsageError where a host is named for a platform that is not built."""
        for platform, host in self.pinned.items():
            if platform not in platforms:
                raise UsageError(
                    f"--on {platform}={host}: {platform} is not built in this run",
                    hint=f"choose from {', '.join(map(str, platforms))}, or change --platform",
                    code="platform",
                )


def read_on(words: Sequence[str]) -> tuple[tuple[str, ...], dict[Platform, str]]:
    """Parse repeated, comma-separated values of `--on` into hosts and hosts by platform: `pi5,pi4`, `linux/arm64=pi5`.

    Raises UsageError for a value that is neither, and for a platform that is given two hosts.
    """
    on: dict[str, None] = {}
    pinned: dict[Platform, str] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        platform_text, equals, host = (part.strip() for part in word.partition("="))
        if not word or (equals and not (platform_text and host)):
            raise UsageError(f"'{','.join(words)}' in --on names no host", hint="write --on HOST or --on PLATFORM=HOST")
        if not equals:
            on[word] = None
            continue
        platform = parse(platform_text)
        if platform in pinned:
            raise UsageError(
                f"--on gives {platform} to {pinned[platform]} and to {host}", hint="name one host for each platform"
            )
        pinned[platform] = host
    return tuple(on), pinned
