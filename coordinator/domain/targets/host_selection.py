"""Which hosts the user asks for: `--on` and `--emulate`, read and kept as they were meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.targets.target import Emulate
from coordinator.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSelection:
    """`on` are the hosts named for every platform, empty for any; `pinned` the one host named for a platform."""

    emulate: Emulate = Emulate.AUTO
    on: tuple[str, ...] = ()
    pinned: Mapping[Platform, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every host that is named, each once."""
        return tuple(dict.fromkeys((*self.on, *self.pinned.values())))

    @property
    def words(self) -> tuple[str, ...]:
        """What `read_on` reads the same from."""
        return (*self.on, *(f"{platform}={host}" for platform, host in self.pinned.items()))

    def on_for(self, platform: Platform) -> tuple[str, ...]:
        """The hosts that may build this platform, empty for any."""
        return (self.pinned[platform],) if platform in self.pinned else self.on

    def check_platforms(self, platforms: Sequence[Platform]) -> None:
        """Raises UsageError where a host is named for a platform that is not built."""
        for platform, host in self.pinned.items():
            if platform not in platforms:
                raise UsageError(
                    f"--on {platform}={host}: {platform} is not built here",
                    hint=f"the platforms are {', '.join(map(str, platforms))}: see --platform",
                    code="platform",
                )


def read_on(words: Sequence[str]) -> tuple[tuple[str, ...], dict[Platform, str]]:
    """Hosts, and hosts by platform, from repeated and comma-joined words: `pi5,pi4`, `linux/arm64=pi5`.

    Raises UsageError for a word that is neither, and for a platform that is given twice.
    """
    on: dict[str, None] = {}
    pinned: dict[Platform, str] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        left, equals, host = (part.strip() for part in word.partition("="))
        if not word or (equals and not (left and host)):
            raise UsageError(f"'{','.join(words)}' in --on names no host", hint="write --on HOST or --on PLATFORM=HOST")
        if not equals:
            on[word] = None
            continue
        platform = parse(left)
        if platform in pinned:
            raise UsageError(
                f"--on gives {platform} to {pinned[platform]} and to {host}", hint="name one host for each platform"
            )
        pinned[platform] = host
    return tuple(on), pinned
