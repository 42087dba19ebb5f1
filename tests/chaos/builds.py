"""What a trial builds: an image whose platforms can be told from each other, and from what was there before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.archloom import context
from tests.chaos.lab import PLATFORMS
from tests.services.images import Base

MARKER, OLD = "marker", "old"
_CHOICES = (PLATFORMS, PLATFORMS[:2], (PLATFORMS[0], PLATFORMS[2]), PLATFORMS[:1])
# One step that computes nothing, so that a busy machine does not change how long it takes, and writes something at its
# end, which a full disk does not have room for. The observer knows it by the token.
_DOCKERFILE = """\
FROM {base}
COPY noise /noise
RUN echo {token} $TARGETPLATFORM >/{marker}; echo begun; sleep {seconds}; dd if=/dev/zero of=/more bs=65536 count=16
CMD ["cat", "/{marker}"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """`seconds` is what its step takes; `noise` the bytes of its context; `rate` what the boards' cables carry.

    `no_cache`: the engines take no step from their caches, so that what is built twice is seen to run twice.
    """

    platforms: tuple[str, ...]
    seconds: int
    noise: int
    rate: str | None
    no_cache: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """Of the command line."""
        return ("--platform", ",".join(self.platforms), *(["--no-cache"] if self.no_cache else []))

    def __str__(self) -> str:
        short = ",".join(platform.removeprefix("linux/") for platform in self.platforms)
        more = [self.rate or "", "no cache" if self.no_cache else ""]
        return f"{short} ({', '.join(filter(None, [f'{self.seconds} s', f'{self.noise >> 10} KiB', *more]))})"


def random_build(dice: random.Random) -> Build:
    return Build(
        platforms=dice.choice(_CHOICES),
        seconds=dice.randint(2, 5),
        noise=dice.choice((1 << 12, 1 << 20, 1 << 21, 1 << 22)),
        rate=dice.choice((None, "30mbit", "30mbit")),
        no_cache=dice.random() < 0.5,
    )


def make(build: Build, folder: Path, base: Base, token: str, dice: random.Random) -> Path:
    """Its context, in a new folder."""
    step = _DOCKERFILE.format(base=base.reference, token=token, marker=MARKER, seconds=build.seconds)
    declared = step.replace("COPY noise", "ARG TARGETOS TARGETARCH TARGETVARIANT TARGETPLATFORM\nCOPY noise", 1)
    return context(folder, declared, {"noise": dice.randbytes(build.noise)})


def content(token: str, platform: str) -> str:
    """What the marker of a platform says."""
    return f"{token} {platform}\n"
