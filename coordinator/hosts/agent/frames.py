"""Encodes requests and parses an agent's stdout: noise, a greeting, frames. See `agents/README.md`."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count
from math import isfinite
from typing import Any, NoReturn

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.errors import LostError, UsageError
from coordinator.hosts.agent.transport import Reader, Writer

PROTOCOL = 1
LARGEST = 1 << 20
_MARK = b"archloom-agent "
_MAX_NOISE_BYTES = 65536
_READ_BYTES = 65536
# The agent sends 6 levels and a few thousand values at most. Python needs up to 20 times the bytes of JSON for them.
_MAX_DEPTH, _MAX_VALUES = 32, 50_000
_MAX_INTEGER = 1 << 64
_SURROGATE = re.compile("[\\ud800-\\udfff]")


def encode(frame: dict[str, Any]) -> bytes:
    """Return one request as bytes on the wire. Raises UsageError `spec` above 1 MiB, which only a spec can reach."""
    line = json.dumps(frame).encode() + b"\n"
    if len(line) > LARGEST:
        raise UsageError(
            f"the build specification is {len(line)} bytes, more than {LARGEST}",
            hint="make the Dockerfile, build arguments and labels smaller; COPY what is large from the context",
            code="spec",
        )
    return line


async def send(writer: Writer, data: bytes, host: str) -> bool:
    """Write bytes to a bulk channel; return False where the agent no longer reads.

    Raises LostError `connection` where it takes none of them for 60 s.
    """
    try:
        async with asyncio.timeout(deadlines.STALL):
            writer.write(data)
            await writer.drain()
    except TimeoutError:
        words = f"host '{host}': its agent has taken nothing for {deadlines.STALL:.0f} s"
        raise LostError(words, code=Cause.CONNECTION) from None
    except OSError:
        return False
    return True


class Incoming:
    """The stdout of one process of the agent. `host` is for messages, `received` counts the bytes.

    `patience`: raise LostError `connection` where no byte comes for so many seconds; None is for ever.
    """

    def __init__(self, reader: Reader, host: str, patience: float | None = None) -> None:
        self._reader = reader
        self._host = host
        self.patience = patience
        self._buffer = bytearray()
        self.received = 0

    async def greeting(self) -> dict[str, Any] | None:
        """Return the object after the next `archloom-agent ` mark, or None where the stream ended first.

        Skips lines without the mark, such as the output of login scripts. Raises LostError `protocol` after 64 KiB
        without a mark, and where JSON after a mark is no object.
        """
        noise = 0
        while (line := await self._line(_MAX_NOISE_BYTES - noise)) is not None:
            if line.startswith(_MARK):
                return self._object(line.removeprefix(_MARK))
            noise += len(line) + 1
        return None

    async def frame(self) -> dict[str, Any] | None:
        """Return the next frame; None at the end of the stream and after a transport error.

        Raises LostError `protocol` for a line over 1 MiB or one that is no JSON object.
        """
        line = await self._line(LARGEST)
        return None if line is None else self._object(line)

    async def line(self, most: int) -> bytes | None:
        """Return the next line without its end; None at the end of the stream and after a transport error.

        Raises LostError `protocol` for a line of more than `most` bytes.
        """
        return await self._line(most)

    async def some(self, most: int) -> bytes:
        """Return up to `most` bytes as soon as any are available; empty at the end and after a transport error."""
        if not self._buffer and not await self._more():
            return b""
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        return data

    async def _line(self, most: int) -> bytes | None:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > most:
                raise self._odd(f"a line of more than {most} bytes")
            if not await self._more():
                return None
        if end > most:
            raise self._odd(f"a line of more than {most} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _more(self) -> bool:
        try:
            async with asyncio.timeout(self.patience):
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError:
            words = f"host '{self._host}': its agent has sent nothing for {self.patience:.0f} s"
            raise LostError(words, code=Cause.CONNECTION) from None
        except OSError:
            return False
        self._buffer += data
        self.received += len(data)
        return bool(data)

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            value = parsed(line)
        except (ValueError, RecursionError) as error:
            raise self._odd(f"not JSON: {line[:80]!r}") from error
        if not isinstance(value, dict):
            raise self._odd(f"not an object: {line[:80]!r}")
        return value

    def _odd(self, what: str) -> LostError:
        return LostError(
            f"host '{self._host}': unexpected output instead of the agent's reply: {what}",
            hint="check the login user there: a login script may print, or its shell may be restricted",
            code=Cause.PROTOCOL,
        )


def parsed(line: bytes) -> object:
    r"""Return the JSON value of a line of UTF-8. Every encoder and the store can take its texts and numbers.

    In texts, a surrogate that stands for a byte (PEP 383) becomes `\xff`, and any other lone surrogate U+FFFD. Raises
    RecursionError or ValueError for what is no JSON (RFC 8259, which has no NaN), for more than 32 levels or 50 000
    values, and for a number that neither 64 bits nor a double can hold.
    """
    return _checked(json.loads(line.decode(), parse_constant=_no_number), count(1), 1)


def _checked(value: object, number: count[int], depth: int) -> object:
    if next(number) > _MAX_VALUES or depth > _MAX_DEPTH:
        raise ValueError("too many values")
    match value:
        case str():
            return _text(value)
        case dict():
            return {_text(name): _checked(member, number, depth + 1) for name, member in value.items()}
        case list():
            return [_checked(element, number, depth + 1) for element in value]
        case int() if abs(value) >= _MAX_INTEGER:
            raise ValueError("an integer of more than 64 bits")
        case float() if not isfinite(value):
            raise ValueError("a number beyond a double's")
    return value


def _text(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub(lambda lone: _without_surrogate(lone[0]), text)


def _without_surrogate(lone: str) -> str:
    return f"\\x{ord(lone) - 0xDC00:02x}" if "\udc80" <= lone <= "\udcff" else "\ufffd"


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)
