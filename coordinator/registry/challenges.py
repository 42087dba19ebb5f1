"""`WWW-Authenticate` headers, read by RFC 9110 section 11: several challenges, quoted commas and all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_WORD})(?:\s+|$|(?=,))")
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_COMMAS = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate. `scheme` and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> tuple[Challenge, ...]:
    """Every challenge in a header, in order. Several headers are one, joined by commas; what cannot be read ends it."""
    found: list[Challenge] = []
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
        # A word followed by `=` is a parameter of this challenge; any other word begins the next one.
        while parameter := _PARAMETER.match(text, position):
            name, quoted, bare = parameter.groups()
            parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)
