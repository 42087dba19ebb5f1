"""What it takes to reach a host: processes of the agent there, and a port there that leads back here.

`local` is one way, SSH is another; everything above these Protocols is the same for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

# Serves one connection until either side ends it.
ConnectionHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a channel's process ended. No exit status means that the transport died: a loss, never a success.

    `words` are the last lines it wrote to stderr.
    """

    exit_status: int | None
    words: str = ""


class Reader(Protocol):
    """What the process writes to stdout."""

    async def read(self, n: int, /) -> bytes:
        """At most `n` bytes as soon as there are some; empty at the end. Raises OSError when the transport dies."""
        ...


class Writer(Protocol):
    """The process's stdin. Bytes are taken at once, so `drain` after every write bounds the memory."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None:
        """Wait until there is room. Raises OSError when nobody reads any more."""
        ...

    def write_eof(self) -> None: ...


class Channel(Protocol):
    """A process of the agent on the host, by its stdin and stdout."""

    @property
    def reader(self) -> Reader: ...
    @property
    def writer(self) -> Writer: ...

    async def close(self) -> Ending:
        """End stdin, wait for the process as long as it may need to finish, then end it. Fine to repeat."""
        ...

    async def abort(self) -> None:
        """End the process at once: it is not what it should be, or nobody wants to wait for it."""
        ...


class Tunnel(Protocol):
    """A port on the host's loopback; each connection to it is served here."""

    @property
    def port(self) -> int: ...
    @property
    def lost(self) -> bool:
        """Whether the connection it came through is gone: nothing on that port leads here any more."""
        ...

    async def close(self) -> None:
        """Stop listening and end what is being served."""
        ...


class Transport(Protocol):
    """One host, reached. Raises LostError where it cannot be."""

    @property
    def host(self) -> str:
        """The host's name, for messages."""
        ...

    async def open_control(self) -> Channel: ...

    async def open_bulk(self, arguments: tuple[str, ...]) -> Channel:
        """The agent with these arguments, on a connection that may be saturated without delaying control frames."""
        ...

    async def listen(self, handler: ConnectionHandler) -> Tunnel:
        """A port that the host chose. `handler` need not close its writer."""
        ...

    async def close(self) -> None:
        """Close everything that was opened through this."""
        ...
