"""Opens an SSH connection to a host, through its jump hosts; raises LostError with the reason and a hint."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from coordinator import deadlines
from coordinator.domain.hosts.inventory import Host
from coordinator.errors import LostError, UsageError
from coordinator.hosts.ssh import host_keys, refusals
from coordinator.hosts.ssh.host_keys import HostKeyCheck
from coordinator.hosts.ssh.known_hosts import KnownHosts, read_known_hosts
from coordinator.hosts.ssh.login_limiter import LoginLimiter
from coordinator.hosts.ssh.options import connection_options
from coordinator.hosts.ssh.proxy_command import ProxyCommand
from coordinator.hosts.ssh.route import Route, read_route
from coordinator.hosts.ssh.unreachable import where

_log = logging.getLogger("archloom.ssh")

# What asyncssh raises for failures. ChannelListenError derives from neither OSError nor asyncssh.Error.
TROUBLE = (OSError, asyncssh.Error, asyncssh.ChannelListenError)

# sshd drops connections at random while 10 or more are not authenticated yet (sshd_config(5), MaxStartups 10:30:100).
_MAX_TRIES = 4
# Host key algorithms by key type. asyncssh itself asks for RSA first, then Ed25519, then ECDSA.
_FAMILIES = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """One SSH server on the way to the host: the host itself, or a jump host."""

    host: Host
    route: Route
    pin: str = ""
    cipher: str = ""


async def connect(host: Host, limiter: LoginLimiter, cipher: str = "") -> asyncssh.SSHClientConnection:
    """Return an authenticated connection to the host.

    `cipher` is preferred to the default ciphers, unless the SSH configuration sets Ciphers. Raises LostError; its code
    is `unreachable` where no SSH server answered within the host's `connect_timeout`, and another code where one did.
    """
    began = time.monotonic()
    try:
        route = await _route(host)
        connection = await _reach(_Hop(host=host, route=route, pin=host.host_key, cipher=cipher), limiter)
    except LostError as error:
        _log.info("%s: %s: %s, %.2f s", host.name, error.code, error.message, time.monotonic() - began)
        raise
    names = ("peername", "username", "server_version", "send_cipher")
    peer, user, version, used = (connection.get_extra_info(name) for name in names)
    seconds = time.monotonic() - began
    _log.info("%s: connected to %s as %s (%s, %s), %.2f s", host.name, peer, user, version, used, seconds)
    return connection


async def _route(host: Host) -> Route:
    """Return the route to the host. Raises LostError `ssh_config`."""
    try:
        # In a thread: it reads files, and runs the commands of `Match exec`.
        return await asyncio.to_thread(read_route, host.address, Path.home())
    except UsageError as error:
        raise refusals.of_configuration(host.name, error) from error


async def _reach(hop: _Hop, limiter: LoginLimiter) -> asyncssh.SSHClientConnection:
    jump = hop.route.jump
    tunnel = None if jump is None else await _reach(_Hop(host=hop.host, route=jump), limiter)
    try:
        connection = await _with_its_key(hop, tunnel, limiter)
    except BaseException:
        if tunnel is not None:
            tunnel.abort()
        raise
    if tunnel is not None:
        # asyncssh closes the tunnel together with this connection.
        connection.set_tunnel(tunnel)
    return connection


async def _with_its_key(
    hop: _Hop,
    tunnel: asyncssh.SSHClientConnection | None,
    limiter: LoginLimiter,
) -> asyncssh.SSHClientConnection:
    """Connect; where the host key differs from a pinned fingerprint, ask for the host key of each type in turn.

    A fingerprint does not include the key type, and a server that has several host keys shows one of them.
    """
    known = await asyncio.to_thread(read_known_hosts, hop.route)
    check = HostKeyCheck(hop.pin, known)
    try:
        return await _tried(hop, known, tunnel, limiter, check.algorithms)
    except LostError as refused:
        if refused.code != host_keys.CHANGED or check.algorithms is not None or not hop.pin:
            raise
        for family in _FAMILIES:
            with suppress(LostError):
                return await _tried(hop, known, tunnel, limiter, family)
        raise


async def _tried(
    hop: _Hop,
    known: KnownHosts,
    tunnel: asyncssh.SSHClientConnection | None,
    limiter: LoginLimiter,
    algorithms: Sequence[str] | None,
) -> asyncssh.SSHClientConnection:
    """Connect, at most `_MAX_TRIES` times where the server closes the connection before its banner.

    No further time is begun after `connect_timeout`: a host without a banner is dead.
    """
    route = hop.route
    drops, began = 0, time.monotonic()
    while True:
        check = HostKeyCheck(hop.pin, known)
        try:
            async with limiter.turn(route.entry or f"{route.host}:{route.port}"):
                connection = await _within_time(hop, tunnel, check, algorithms)
        except asyncssh.HostKeyNotVerifiable as error:
            raise check.refusal(hop.host.name, where(route), error.reason, jump=route.entry) from error
        except (asyncssh.ConnectionLost, ConnectionResetError) as error:
            drops += 1
            is_late = time.monotonic() - began > hop.host.connect_timeout
            if check.greeted or drops == _MAX_TRIES or is_late:
                raise _refusal(hop, check, error) from error
            await asyncio.sleep(deadlines.LOGIN_PAUSE * drops * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        except LostError:
            raise
        except Exception as error:
            # Any exception: asyncssh passes on what its parsers raised for bytes of the host.
            raise _refusal(hop, check, error) from error
        else:
            if check.banner:
                _log.info("%s: banner of %s: %s", hop.host.name, where(route), " ".join(check.banner.split()))
            return connection


def _refusal(hop: _Hop, check: HostKeyCheck, error: Exception) -> LostError:
    if check.proxy is not None and not check.greeted:
        return refusals.of_proxy(hop.host, hop.route, check.proxy.close())
    return refusals.of_connection(hop.host, hop.route, error, greeted=check.greeted, banner=check.banner)


async def _within_time(
    hop: _Hop,
    tunnel: asyncssh.SSHClientConnection | None,
    check: HostKeyCheck,
    algorithms: Sequence[str] | None,
) -> asyncssh.SSHClientConnection:
    """Connect once. Raises TimeoutError where no banner came within `connect_timeout`, and asyncssh's exceptions.

    Raises LostError `ssh_config` where asyncssh cannot use a value of the SSH configuration.
    """
    try:
        options = await connection_options(hop.route, algorithms, hop.cipher)
    except ValueError as error:
        raise refusals.of_configuration(hop.host.name, error) from error
    check.proxy = ProxyCommand(hop.route.proxy) if hop.route.proxy else None
    attempt = asyncio.ensure_future(
        asyncssh.connect(
            hop.route.host,
            sock=check.proxy.socket if check.proxy else None,
            options=options,
            config=None,
            tunnel=tunnel or (),
            known_hosts=check.known_keys,
            client_factory=lambda: check,
            connect_timeout=None,
            login_timeout=deadlines.LOGIN,
            keepalive_interval=deadlines.KEEPALIVE,
            keepalive_count_max=deadlines.MAX_UNANSWERED_KEEPALIVES,
        )
    )
    try:
        await asyncio.wait({attempt}, timeout=hop.host.connect_timeout)
        if attempt.done() or check.greeted:
            return await attempt
    finally:
        if not attempt.done():
            attempt.cancel()
            await asyncio.wait({attempt})
            # The connection may have been established just before the cancellation.
            if not attempt.cancelled() and attempt.exception() is None:
                attempt.result().abort()
        if check.proxy is not None and (attempt.cancelled() or attempt.exception() is not None):
            check.proxy.close(0.0 if check.greeted else deadlines.PROXY_END)
    raise TimeoutError
