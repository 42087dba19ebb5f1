"""Opens an SSH connection to a host, through its jump hosts; raises LostError with the reason and a hint."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncssh

from coordinator.domain.hosts.inventory import Address, Host
from coordinator.errors import LostError
from coordinator.hosts.ssh import host_keys, refusals
from coordinator.hosts.ssh.host_keys import HostKeyCheck, known_hosts
from coordinator.hosts.ssh.keys import identity_files
from coordinator.hosts.ssh.login_limiter import Handshakes

_log = logging.getLogger("archloom.ssh")

# What asyncssh raises for failures. ChannelListenError derives from neither OSError nor asyncssh.Error.
TROUBLE = (OSError, asyncssh.Error, asyncssh.ChannelListenError)

# A connection is lost after 4 intervals of 5 s without data. Received data restarts the interval, so a busy tunnel is
# not taken for lost.
_KEEPALIVE_S, _KEEPALIVE_COUNT = 5, 3
# Time for key exchange and login on a board that is swapping; the banner has `connect_timeout`, which is shorter.
_LOGIN_TIMEOUT_S = 25.0
# sshd drops connections at random while 10 or more are not authenticated yet (sshd_config(5), MaxStartups 10:30:100).
_MAX_TRIES = 4
_MAX_JUMPS = 8
_RETRY_PAUSE_S = 0.3
# Host key algorithms by key type. asyncssh itself asks for RSA first, then Ed25519, then ECDSA.
_FAMILIES = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """One SSH server on the route: the host itself, or a jump host, whose `jump` is its entry in ProxyJump."""

    host: Host
    address: Address
    pin: str = ""
    jump: str = ""
    depth: int = 0
    cipher: str = ""


async def connect(host: Host, handshakes: Handshakes, cipher: str = "") -> asyncssh.SSHClientConnection:
    """Return an authenticated connection to the host.

    `cipher` is preferred to the default ciphers, unless the SSH configuration sets Ciphers. Raises LostError; its code
    is `unreachable` where no SSH server answered within the host's `connect_timeout`, and another code where one did.
    """
    began = time.monotonic()
    try:
        connection = await _reach(_Hop(host=host, address=host.address, pin=host.host_key, cipher=cipher), handshakes)
    except LostError as error:
        _log.info("%s: %s: %s, %.2f s", host.name, error.code, error.message, time.monotonic() - began)
        raise
    names = ("peername", "username", "server_version", "send_cipher")
    peer, user, version, used = (connection.get_extra_info(name) for name in names)
    seconds = time.monotonic() - began
    _log.info("%s: connected to %s as %s (%s, %s), %.2f s", host.name, peer, user, version, used, seconds)
    return connection


async def _reach(
    hop: _Hop, handshakes: Handshakes, before: asyncssh.SSHClientConnection | None = None
) -> asyncssh.SSHClientConnection:
    tunnel = before
    try:
        options = await _options(hop)
        tunnel = before or await _jumps(hop, options, handshakes)
        connection = await _with_its_key(hop, options, tunnel, handshakes)
    except BaseException:
        if tunnel is not None:
            tunnel.abort()
        raise
    if tunnel is not None:
        # asyncssh closes the tunnel together with this connection.
        connection.set_tunnel(tunnel)
    return connection


async def _options(hop: _Hop) -> asyncssh.SSHClientConnectionOptions:
    """Return the options for this hop from the SSH configuration files and the inventory.

    Raises LostError `ssh_config`.
    """
    overrides: dict[str, Any] = {}
    if hop.address.user:
        overrides["username"] = hop.address.user
    if hop.address.port:
        overrides["port"] = hop.address.port
    try:
        options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
            config=(),
            host=hop.address.host,
            client_keys=None,  # set in `_within_time`, without absent files
            keepalive_interval=_KEEPALIVE_S,
            keepalive_count_max=_KEEPALIVE_COUNT,
            connect_timeout=None,
            login_timeout=_LOGIN_TIMEOUT_S,
            **overrides,
        )
    except (ValueError, OSError) as error:
        raise refusals.of_configuration(hop.host.name, error) from error
    return options


async def _jumps(
    hop: _Hop, options: asyncssh.SSHClientConnectionOptions, handshakes: Handshakes
) -> asyncssh.SSHClientConnection | None:
    """Return the connection to the last jump host of the SSH configuration's ProxyJump; None where it has none."""
    connection: asyncssh.SSHClientConnection | None = None
    named = options.tunnel if isinstance(options.tunnel, str) else ""
    if named and hop.depth == _MAX_JUMPS:
        circle = ValueError(f"the jump hosts of {hop.host.address.host} lead in a circle")
        raise refusals.of_configuration(hop.host.name, circle)
    for jump in filter(None, map(str.strip, named.split(","))):
        next_hop = _Hop(host=hop.host, address=_address(jump), jump=jump, depth=hop.depth + 1)
        connection = await _reach(next_hop, handshakes, connection)
    return connection


def _address(jump: str) -> Address:
    """Return the address of a ProxyJump entry: `[user@]host[:port]`, with or without `ssh://`."""
    user, _, place = jump.removeprefix("ssh://").rstrip("/").rpartition("@")
    host, colon, port = place.rpartition(":")
    if colon and port.isdigit() and not host.endswith(":"):
        return Address(host.strip("[]"), user, int(port))
    return Address(place.strip("[]"), user)


async def _with_its_key(
    hop: _Hop,
    options: asyncssh.SSHClientConnectionOptions,
    tunnel: asyncssh.SSHClientConnection | None,
    handshakes: Handshakes,
) -> asyncssh.SSHClientConnection:
    """Connect; where the host key differs from a pinned fingerprint, ask for the host key of each type in turn.

    A fingerprint does not include the key type, and a server that has several host keys shows one of them.
    """
    check = HostKeyCheck(hop.pin, known_hosts(options))
    try:
        return await _tried(hop, options, tunnel, handshakes, check.algorithms)
    except LostError as refused:
        if refused.code != host_keys.CHANGED or check.algorithms is not None or not hop.pin:
            raise
        for family in _FAMILIES:
            with suppress(LostError):
                return await _tried(hop, options, tunnel, handshakes, family)
        raise


async def _tried(
    hop: _Hop,
    options: asyncssh.SSHClientConnectionOptions,
    tunnel: asyncssh.SSHClientConnection | None,
    handshakes: Handshakes,
    algorithms: Sequence[str] | None,
) -> asyncssh.SSHClientConnection:
    """Connect, at most `_MAX_TRIES` times where the server closes the connection before its banner."""
    known = known_hosts(options)
    drops = 0
    while True:
        check = HostKeyCheck(hop.pin, known)
        try:
            async with handshakes.turn(hop.jump or f"{options.host}:{options.port}"):
                return await _within_time(hop, options, tunnel, check, algorithms)
        except asyncssh.HostKeyNotVerifiable as error:
            raise check.refusal(hop.host.name, refusals.where(options), error.reason, jump=hop.jump) from error
        except (asyncssh.ConnectionLost, ConnectionResetError) as error:
            drops += 1
            if check.greeted or drops == _MAX_TRIES:
                raise refusals.of_connection(hop.host, options, error, hop.jump, greeted=check.greeted) from error
            await asyncio.sleep(_RETRY_PAUSE_S * drops * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        except TROUBLE as error:
            raise refusals.of_connection(hop.host, options, error, hop.jump) from error


async def _within_time(
    hop: _Hop,
    options: asyncssh.SSHClientConnectionOptions,
    tunnel: asyncssh.SSHClientConnection | None,
    check: HostKeyCheck,
    algorithms: Sequence[str] | None,
) -> asyncssh.SSHClientConnection:
    """Connect once. Raises TimeoutError where no banner came within `connect_timeout`, and asyncssh's exceptions."""
    files = identity_files(options)
    keys: dict[str, Any] = {"client_keys": ()} if files is None else {"client_keys": files, "ignore_encrypted": True}
    algorithm_options: dict[str, Any] = {}
    if algorithms:
        algorithm_options["server_host_key_algs"] = algorithms
    if hop.cipher and not options.config.get("Ciphers"):
        algorithm_options["encryption_algs"] = f"^{hop.cipher}"
    attempt = asyncio.ensure_future(
        asyncssh.connect(
            hop.address.host,
            options=options,
            tunnel=tunnel or (),
            known_hosts=check.known_keys,
            client_factory=lambda: check,
            **keys,
            **algorithm_options,
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
    raise TimeoutError
