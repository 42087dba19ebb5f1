"""Values that must never be displayed: they print as `[REDACTED]` everywhere."""

from __future__ import annotations

from dataclasses import dataclass

_REDACTED = "[REDACTED]"


class Secret:
    """A text that only `reveal` returns. Secrets with equal texts are equal."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return _REDACTED

    def __repr__(self) -> str:
        return _REDACTED

    def __format__(self, spec: str) -> str:
        return format(_REDACTED, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        # Refuse pickling and copying: the text must not leave this process or this type by accident.
        raise TypeError("a secret is not copied or stored")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The credential for one registry.

    `identity_token`, where present, is exchanged for access tokens and takes precedence over the password, which may
    then be empty. `registry_token` is an access token itself, and takes precedence over both.
    """

    username: str = ""
    password: Secret = Secret("")  # noqa: RUF009 - a Secret is immutable
    identity_token: Secret = Secret("")  # noqa: RUF009
    registry_token: Secret = Secret("")  # noqa: RUF009
