"""Values that must never be seen: they print `[REDACTED]` wherever they end up."""

from __future__ import annotations

from dataclasses import dataclass

_SHOWN = "[REDACTED]"


class Secret:
    """A text that only `reveal` gives away. Equal texts are equal secrets."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return _SHOWN

    def __repr__(self) -> str:
        return _SHOWN

    def __format__(self, spec: str) -> str:
        return format(_SHOWN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        # What is pickled or copied leaves this process or this type; neither may happen by accident.
        raise TypeError("a secret is not copied or stored")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What one registry knows us by.

    `identity_token`, where there is one, is exchanged for access tokens and goes before the password, which may
    then be empty.
    """

    username: str = ""
    password: Secret = Secret("")  # noqa: RUF009 - a value that cannot change
    identity_token: Secret = Secret("")  # noqa: RUF009
