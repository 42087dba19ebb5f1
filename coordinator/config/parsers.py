"""Parsers for single values of a document. Each raises ValueError with a complete sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from coordinator.config.problems import found
from coordinator.config.suggestions import did_you_mean
from coordinator.domain.image import platforms
from coordinator.domain.image.platforms import Platform
from coordinator.errors import UsageError

_OR_REMOVE = " — or remove the key"
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(B|[kKMGT]B|[KMGT]iB)$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|[kKMGT]B|[KMGT]iB)\Z")
_BARE_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT])\Z")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%\Z")


def text(value: object) -> str:
    """Return the text as written, without surrounding whitespace; whole numbers are text too."""
    if isinstance(value, bool):
        raise _expected("text", value, " — quote it")
    if not isinstance(value, (str, int)):
        raise _expected("text", value, _OR_REMOVE if value is None else "")
    return str(value).strip()


def flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    suggestion = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(value).lower())
    raise _expected("true or false", value, f" — did you mean {suggestion}?" if suggestion else "")


def whole(value: object, lowest: int, highest: int) -> int:
    """Return a whole number within these inclusive bounds, quoted or not."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise _expected(f"a whole number from {lowest} to {highest}", value)
    return value


def version(value: object) -> int:
    """Return the version of the document's format. Only version 1 exists."""
    if value != 1 or isinstance(value, bool):
        raise ValueError(f"this archloom reads version 1, found {found(value)}")
    return 1


def duration(value: object, shortest: float, longest: float) -> float:
    """Return seconds, from `500ms`, `5s`, `1h30m` or `2d`."""
    if not isinstance(value, str) or not re.match(DURATION_PATTERN, value):
        suggestion = " — add a unit" if re.fullmatch(r"[0-9.]+", str(value)) else ""
        raise _expected("a time such as 5s, 20m or 24h", value, suggestion)
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if not shortest <= seconds <= longest:
        raise _expected(f"a time from {shortest:g}s to {longest:g}s", value)
    return seconds


def size(value: object) -> int:
    """Return bytes, from `20GB` (decimal) or `20GiB` (binary)."""
    written = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    match = _SIZE.match(written)
    if not match:
        bare = _BARE_SIZE.match(written)
        unit = bare[2].upper() if bare else "G"
        number = bare[1] if bare else written
        suggestion = f" — did you mean {number}{unit}B?" if re.fullmatch(r"[0-9.]+", number) else ""
        raise _expected("a size such as 20GB or 500MB", value, suggestion)
    return int(float(match[1]) * _UNIT_BYTES[match[2]])


def percent(value: object) -> float:
    """Return a share from 0 to 0.9, from `10%`. Keeping more than 90 % free would leave no space to build in."""
    match = _PERCENT.match(value) if isinstance(value, str) else None
    share = float(match[1]) / 100 if match else -1.0
    if not 0 <= share <= 0.9:
        raise _expected("a share from 0% to 90%, such as 10%", value)
    return share


def choice(value: object, words: Iterable[str], planned: dict[str, str] | None = None) -> str:
    """Return the value if it is one of these words. `planned` maps words not supported yet to what to do until then."""
    words = list(words)
    if isinstance(value, str) and value in words:
        return value
    if isinstance(value, str) and planned and value in planned:
        raise ValueError(f"{found(value)} is not supported yet — {planned[value]}")
    if not isinstance(value, str):
        raise _expected(" or ".join(words), value)
    raise ValueError(f"unknown value {found(value)}{did_you_mean(value, words)}")


def choice_with_off(value: object, words: Iterable[str]) -> str:
    """Return the value if it is one of these words, of which one is `off`: a false boolean in YAML 1.1."""
    return choice("off" if value is False else value, words)


def platform(value: object) -> Platform:
    try:
        return platforms.parse(text(value))
    except UsageError as error:
        raise ValueError(f"{error.message} — {error.hint}") from error


def several(value: object) -> object:
    """Return the value if it is a non-empty list. The error for a string suggests the list to write."""
    if isinstance(value, list) and value:
        return value
    if isinstance(value, str):
        words = ", ".join(word.strip() for word in value.split(","))
        raise _expected("a list", value, f" — did you mean [{words}]?")
    raise _expected("a non-empty list", value, _OR_REMOVE)


def each_once(values: list[Platform]) -> list[Platform]:
    """Return the same list. Raises ValueError where a platform is listed twice, also in two spellings."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value} is listed twice")
    return values


def or_empty(value: object) -> object:
    """Return an empty map for None: a section with only comments counts as absent."""
    return {} if value is None else value


def _expected(what: str, value: object, more: str = "") -> ValueError:
    return ValueError(f"expected {what}, found {found(value)}{more}")
