"""Read an agent's raw observation leniently: a field that an older agent does not send is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Reading:
    """One JSON value. Reading a member that is absent or of another type is no error and returns an empty value."""

    value: object

    def at(self, name: str) -> Reading:
        """Return the member of this name."""
        return Reading(self.value.get(name) if isinstance(self.value, Mapping) else None)

    def text(self, name: str) -> str:
        value = self.at(name).value
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> float | None:
        return _number(self.at(name).value)

    def whole(self, name: str) -> int:
        """Return an integer, 0 where it is unknown."""
        return int(self.number(name) or 0)

    def flag(self, name: str) -> bool | None:
        value = self.at(name).value
        return value if isinstance(value, bool) else None

    def __iter__(self) -> Iterator[Reading]:
        """Iterate over the elements of a list; over nothing where the value is no list."""
        elements = self.value if isinstance(self.value, list | tuple) else ()
        return (Reading(element) for element in elements)

    def words(self, name: str) -> tuple[str, ...]:
        """Return the strings in the list of this name."""
        return tuple(item.value for item in self.at(name) if isinstance(item.value, str))

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return the numbers in the list of this name."""
        return tuple(number for item in self.at(name) if (number := _number(item.value)) is not None)

    def names(self) -> tuple[str, ...]:
        """Return the names of the members of an object."""
        return tuple(self.value) if isinstance(self.value, Mapping) else ()


def _number(value: object) -> float | None:
    # Python's json module also accepts Infinity and NaN, which RFC 8259 does not allow, and integers of any size.
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
