"""What a registry's failure means once it has let this run push: it is waited for, unless it refuses the content.

Also 401, 403 and 404 pass by then: a proxy in front of a registry that restarts answers anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.causes import Cause
from coordinator.domain.image.platforms import Platform
from coordinator.errors import ArchloomError, RegistryCode, RegistryError, UsageError

# Refusals of a name or of a content, which the same request gets again; and faults of the image itself.
_FINAL = frozenset(
    {
        RegistryCode.CONFLICT,
        RegistryCode.IMMUTABLE,
        RegistryCode.INVALID,
        RegistryCode.TOO_LARGE,
        Cause.INTERNAL,
        Cause.MALFORMED,
        Cause.MISMATCH,
        Cause.SCHEMA1,
        Cause.ZSTD,
    }
)
# UsageErrors about the way to a registry. Others, such as those of a store that cannot be written, are none of it.
_OF_THE_WAY = frozenset({"certificate", "credentials", "helper", "http", "https"})
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 10.0)
_MAX_ASKED_PAUSE_S = 60.0
# How far apart lines are in the first minute of a wait, where each try has one, and after that.
_LINE_S, _LATER_LINE_S = 1.0, 30.0
_FIRST_MINUTE_S = 60.0
# No pause is longer without a line.
LONGEST_SILENCE_S = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryUse:
    """What a run does with a registry, and repeats until it succeeds: `name` is unique in the run.

    `platforms` are those that wait for it; `kept` are the hosts that keep the image of a platform meanwhile.
    """

    name: str
    registry: str
    platforms: tuple[Platform, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)


def is_final(code: str) -> bool:
    """Return whether no other try can succeed, by the code of the error."""
    return code in _FINAL


def is_trouble(error: ArchloomError) -> bool:
    """Return whether a registry, or the way to it, failed in a manner that may pass."""
    if isinstance(error, UsageError):
        return error.code in _OF_THE_WAY
    return isinstance(error, RegistryError) and not is_final(error.code)


def next_pause(tries: int, asked: float) -> float:
    """Return the seconds until the next try, after so many failed `tries`.

    What the registry asks for counts up to a minute: one that asks for a day may serve again in a moment.
    """
    pause = _PAUSES_S[min(tries, len(_PAUSES_S)) - 1]
    return max(pause, asked) if asked <= _MAX_ASKED_PAUSE_S else pause


def line_is_due(seconds: float, since_line: float) -> bool:
    """Return whether a wait of so many `seconds` needs a line, `since_line` seconds after its last one."""
    return since_line >= (_LINE_S if seconds < _FIRST_MINUTE_S else _LATER_LINE_S)
