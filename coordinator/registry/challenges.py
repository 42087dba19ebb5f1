"""Parser of `WWW-Authenticate` headers (RFC 9110, section 11): several challenges, and commas in quoted strings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_TCHARS})(?:\s+|$|(?=,))")
_PARAMETER = re.compile(rf'\s*({_TCHARS})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_COMMAS = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One authentication challenge. `scheme` and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> tuple[Challenge, ...]:
    """Return the challenges of a header, in order. Parsing ends at the first text that is not a challenge.

    The caller joins several `WWW-Authenticate` headers with commas.
    """
    challenges: list[Challenge] = []
    position = 0
    while position < len(text):
        if blank := _COMMAS.match(text, position):
            position = blank.end()
            continue
        scheme = _SCHEME.match(text, position)
        if scheme is None:
            break
        position = scheme.end()
        parameters: dict[str, str] = {}
        # A token followed by `=` is a parameter of this challenge; any other token begins the next challenge.
        while parameter := _PARAMETER.match(text, position):
            name, quoted, bare = parameter.groups()
            parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        challenges.append(Challenge(scheme[1].lower(), parameters))
    return tuple(challenges)
