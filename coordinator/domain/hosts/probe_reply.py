"""An agent's raw findings, read with tolerance: what an older agent does not say is simply not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Reading:
    """One JSON value. Asking for what is absent or of another type is never an error, and answers empty."""

    value: object

    def at(self, name: str) -> Reading:
        """The member of this name."""
        return Reading(self.value.get(name) if isinstance(self.value, Mapping) else None)

    def text(self, name: str) -> str:
        value = self.at(name).value
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> float | None:
        return _number(self.at(name).value)

    def whole(self, name: str) -> int:
        """0 where it is not known."""
        return int(self.number(name) or 0)

    def flag(self, name: str) -> bool | None:
        value = self.at(name).value
        return value if isinstance(value, bool) else None

    def __iter__(self) -> Iterator[Reading]:
        """The elements, where this is a list."""
        elements = self.value if isinstance(self.value, list | tuple) else ()
        return (Reading(element) for element in elements)

    def words(self, name: str) -> tuple[str, ...]:
        """The texts in the list of this name."""
        return tuple(item.value for item in self.at(name) if isinstance(item.value, str))

    def numbers(self, name: str) -> tuple[float, ...]:
        """The numbers in the list of this name."""
        return tuple(number for item in self.at(name) if (number := _number(item.value)) is not None)

    def names(self) -> tuple[str, ...]:
        """The names of the members, where this is an object."""
        return tuple(self.value) if isinstance(self.value, Mapping) else ()


def _number(value: object) -> float | None:
    # JSON as Python reads it has Infinity and NaN.
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    return None
