"""The names of pins: tags that keep a child from garbage collection and let it be found again by its build id.

Nothing of archloom is inside an image, so a pin's name is the proof of what its image is. A pin is therefore never
moved to another digest (`docs/decisions/0011-pins.md`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coordinator.domain.image.platforms import Mode, Platform

_LETTERS = {Mode.NATIVE: "n", Mode.COMPAT: "c", Mode.CROSS: "x", Mode.EMULATED: "e"}
_DIGEST_DIGITS = 12
# A tag has at most 128 characters (distribution-spec, "Pulling manifests"); the longest name has 103 besides this.
# The platform is there for people: the build id covers it too, so a name that is cut short stays unique.
_MAX_SLUG = 25
# The second form belongs to build ids up to format 2: such a pin is not reused, since no build has such an id.
_PIN = re.compile(
    r"archloom-(?:[0-9a-f]{64}-[a-z0-9._-]+-[ncxe](?:-[0-9a-f]{12})?(?:-a[0-9a-f]{12})?|[0-9a-f]{16}-[a-z0-9._-]+)\Z"
)

_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")


@dataclass(frozen=True, slots=True)
class KnownChild:
    """A child that this coordinator verified, of one build id and platform. `tag` is its pin, empty without one."""

    mode: Mode
    digest: str
    tag: str = ""


def pin_tag(build_id: str, platform: Platform, mode: Mode) -> str:
    """Return the pin of the child that a build with this id gave in this mode."""
    return f"archloom-{build_id}-{platform.slug[:_MAX_SLUG]}-{_LETTERS[mode]}"


def own_pin(pin: str, digest: str) -> str:
    """Return the pin for the child `digest` where `pin` is another child's, which is not a good one."""
    return f"{pin}-{_digits(digest)}"


def attestation_pin(pin: str, digest: str) -> str:
    """Return the pin for an attestation of the child at `pin`."""
    return f"{pin}-a{_digits(digest)}"


def shown_pin(pin: str) -> str:
    """Return the pin for people: its build id shortened, `no tag` where the registry has none."""
    return "pin " + _ID.sub(r"\1…", pin) if pin else "no tag"


def is_pin(tag: str) -> bool:
    """Return whether this is the name of a pin, of this or an older version of archloom."""
    return _PIN.match(tag) is not None


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_DIGEST_DIGITS]
