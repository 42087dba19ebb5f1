"""Streams to the SSH server of a host that is enrolled, up to its version line: by TCP, ProxyCommand or jump host."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol

from coordinator import deadlines
from coordinator.errors import LostError
from coordinator.hosts.ssh.login_shell import last_words
from coordinator.hosts.ssh.proxy_command import ProxyCommand
from coordinator.hosts.ssh.route import PORT, Route
from coordinator.hosts.ssh.unreachable import (
    JUMP_HINT,
    PROXY_HINT,
    at_jump,
    no_answer,
    not_from_jump,
    proxy_failed,
    where,
)

if TYPE_CHECKING:
    import paramiko

_VERSION = b"SSH-"
# asyncssh's limits for the lines before it, in bytes.
_MAX_LINE, _MAX_BEFORE = 8192, 8192 * 1024
_READ_BYTES = 4096


class _Inner(Protocol):
    """What a socket and a channel of paramiko have in common."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def close(self) -> None: ...


class Stream:
    """A stream as paramiko's Transport takes it. `ahead` is what was read of it already."""

    def __init__(self, inner: _Inner, proxy: ProxyCommand | None = None) -> None:
        self._inner = inner
        self.proxy = proxy
        self.ahead = b""
        self._closed = False  # which paramiko looks up

    def recv(self, size: int) -> bytes:
        if self.ahead:
            data, self.ahead = self.ahead[:size], self.ahead[size:]
            return data
        return self._inner.recv(size)

    def send(self, data: bytes) -> int:
        return self._inner.send(data)

    def settimeout(self, seconds: float | None) -> None:
        self._inner.settimeout(seconds)

    def close(self) -> None:
        self._closed = True
        self._inner.close()
        if self.proxy is not None:
            self.proxy.close()


def dial(route: Route, below: paramiko.Transport | None, timeout: float) -> Stream:
    """Return a stream that begins with the version line of the SSH server; `below` is logged in to the jump host.

    Raises LostError where none came within `timeout` seconds.
    """
    until = time.monotonic() + timeout
    stream = _open(route, below, timeout)
    try:
        _skip_to_version(stream, until)
    except (OSError, EOFError) as error:
        raise _failed(route, stream, error, timeout) from error
    except BaseException:
        stream.close()
        raise
    return stream


def ssh_words(route: Route) -> str:
    """Return the arguments of `ssh` for this route's port, user and name."""
    return (f"-p {route.port} " if route.port != PORT else "") + f"{route.user}@{route.name}"


def _open(route: Route, below: paramiko.Transport | None, timeout: float) -> Stream:
    if below is not None:
        from paramiko.ssh_exception import ChannelException, SSHException

        try:
            return Stream(
                below.open_channel("direct-tcpip", (route.host, route.port), ("127.0.0.1", 0), timeout=timeout)
            )
        except ChannelException as error:
            message = f"{at_jump(route)}{not_from_jump(route, error.text)}"
            raise LostError(message, hint=f"{JUMP_HINT}{route.host}", code="jump") from error
        except SSHException as error:
            message = f"{at_jump(route)}{not_from_jump(route, f'no answer in {timeout:g} s')}"
            raise LostError(message, hint=f"{JUMP_HINT}{route.host}", code="jump") from error
    try:
        if route.proxy:
            proxy = ProxyCommand(route.proxy)
            return Stream(proxy.socket, proxy)
        return Stream(socket.create_connection((route.host, route.port), timeout=timeout))
    except OSError as error:
        raise _unreachable(route, error, timeout) from error


def _skip_to_version(stream: Stream, until: float) -> None:
    """Read up to the version line. RFC 4253, 4.2: other lines may precede it, in any encoding."""
    buffer, skipped = b"", 0
    while not buffer.startswith(_VERSION):
        stream.settimeout(max(0.01, until - time.monotonic()))
        data = stream.recv(_READ_BYTES)
        buffer += data
        while not buffer.startswith(_VERSION) and b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            skipped += len(line)
        if not data:
            raise EOFError
        if time.monotonic() >= until:
            raise TimeoutError
        if len(buffer) > _MAX_LINE or skipped > _MAX_BEFORE:
            raise ConnectionAbortedError(last_words(buffer[:_MAX_LINE]))
    stream.ahead = buffer


def _failed(route: Route, stream: Stream, error: Exception, timeout: float) -> LostError:
    words = stream.proxy.close(deadlines.PROXY_END) if stream.proxy else ""
    stream.close()
    if route.proxy:
        message = f"{at_jump(route)}{proxy_failed(route, words)}"
        return LostError(message, hint=f"{PROXY_HINT}{ssh_words(route)}", code="proxy")
    match error:
        case EOFError() | ConnectionResetError():
            message = f"{at_jump(route)}{where(route)} closed the connection"
            hint = "too many logins at once (MaxStartups of its sshd), or a firewall is in between"
            return LostError(message, hint=hint, code="closed")
        case ConnectionAbortedError():
            message = f"{at_jump(route)}{where(route)} answers, but not with SSH: {error}"
            return LostError(
                message, hint="is another service on that port? ssh://USER@HOST:PORT gives one", code="ssh"
            )
        case _:
            return _unreachable(route, error, timeout)


def _unreachable(route: Route, error: BaseException, timeout: float) -> LostError:
    match error:
        case socket.gaierror():
            hint = f"check its spelling, or give its address: archloom boards add {route.user}@192.168.…"
            code = "name"
        case ConnectionRefusedError():
            hint = "start it there: sudo systemctl enable --now ssh; for another port: ssh://USER@HOST:PORT"
            code = "refused"
        case _:
            hint = (
                f"is it switched on, and in this network? try: ping -c 1 {route.host}; a firewall may drop connections"
            )
            code = "timeout"
    return LostError(f"{at_jump(route)}{no_answer(route, error, timeout)}", hint=hint, code=code)
