"""Protocols for reaching a host: channels to processes of the agent, and tunnels from the host to the coordinator.

Implemented by `hosts/agent/local.py` and `hosts/ssh/transport.py`.
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
    """How a channel's process ended. `exit_status` is None where the transport was lost: never a success.

    `words` are the last lines the process wrote to stderr.
    """

    exit_status: int | None
    words: str = ""


class Reader(Protocol):
    """The stdout of the process."""

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes as soon as any are available; empty at the end. Raises OSError on a lost transport."""
        ...


class Writer(Protocol):
    """The stdin of the process. `write` buffers without limit: `drain` after every write bounds the memory."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None:
        """Wait until the buffer has room. Raises OSError where the process no longer reads."""
        ...

    def write_eof(self) -> None: ...


class Channel(Protocol):
    """A process of the agent on the host, with its stdin and stdout."""

    @property
    def reader(self) -> Reader: ...
    @property
    def writer(self) -> Writer: ...

    async def close(self) -> Ending:
        """Send EOF on stdin, wait for the process up to the implementation's timeout, then end it. Idempotent."""
        ...

    async def abort(self) -> None:
        """End the process at once, without waiting for it to finish its work."""
        ...


class Tunnel(Protocol):
    """A port on the host's loopback; the coordinator serves each connection to it."""

    @property
    def port(self) -> int: ...
    @property
    def lost(self) -> bool:
        """Whether the connection that carries the tunnel is closed: the port no longer leads to the coordinator."""
        ...

    async def close(self) -> None:
        """Stop listening and end the connections being served."""
        ...


class Transport(Protocol):
    """Access to one host. Opening a channel or tunnel raises LostError where the host cannot be reached."""

    @property
    def host(self) -> str:
        """The host's name, for messages."""
        ...

    async def open_control(self) -> Channel: ...

    async def open_bulk(self, arguments: tuple[str, ...]) -> Channel:
        """Start the agent with these arguments, on a connection whose load does not delay control frames."""
        ...

    async def listen(self, handler: ConnectionHandler) -> Tunnel:
        """Listen on a loopback port that the host chooses. `handler` need not close its writer."""
        ...

    async def close(self) -> None:
        """Close every channel, tunnel and connection of this transport."""
        ...
