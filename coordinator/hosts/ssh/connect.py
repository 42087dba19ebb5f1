"""One SSH connection to a host, through its jump hosts, or a sentence that says why there is none."""

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

# asyncssh's own answers to trouble, and the one of its exceptions that is none of them.
TROUBLE = (OSError, asyncssh.Error, asyncssh.ChannelListenError)

# A loss is noticed after 4 silences of 5 s; what arrives restarts the count, so a busy tunnel is not taken for dead.
_KEEPALIVE_S, _KEEPALIVE_COUNT = 5, 3
# For keys, signatures and the login on a board that swaps; the banner has its own, shorter time.
_LOGIN_S = 25.0
# sshd drops connections at random while too many are not logged in yet (MaxStartups).
_MOST_TRIES = 4
_MOST_JUMPS = 8
_PAUSE_S = 0.3
# asyncssh's order within a family is its own.
_FAMILIES = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """One server on the way: the host itself, or a jump host, whose `jump` is how `ssh` would be told of it."""

    host: Host
    address: Address
    pin: str = ""
    jump: str = ""
    depth: int = 0
    cipher: str = ""


async def connect(host: Host, handshakes: Handshakes, cipher: str = "") -> asyncssh.SSHClientConnection:
    """A connection to the host, logged in. `cipher` goes before the usual ones, unless the SSH configuration has some.

    Raises LostError; its code is `unreachable` where no SSH server has answered within the host's `connect_timeout`,
    and another one where something did.
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
        # Closed with the connection that goes through it.
        connection.set_tunnel(tunnel)
    return connection


async def _options(hop: _Hop) -> asyncssh.SSHClientConnectionOptions:
    """What `~/.ssh/config` and the inventory say of this hop."""
    given: dict[str, Any] = {}
    if hop.address.user:
        given["username"] = hop.address.user
    if hop.address.port:
        given["port"] = hop.address.port
    try:
        options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
            config=(),
            host=hop.address.host,
            client_keys=None,  # looked for later, without those that are not there
            keepalive_interval=_KEEPALIVE_S,
            keepalive_count_max=_KEEPALIVE_COUNT,
            connect_timeout=None,
            login_timeout=_LOGIN_S,
            **given,
        )
    except (ValueError, OSError) as error:
        raise refusals.of_configuration(hop.host.name, error) from error
    return options


async def _jumps(
    hop: _Hop, options: asyncssh.SSHClientConnectionOptions, handshakes: Handshakes
) -> asyncssh.SSHClientConnection | None:
    """The connection to the last of the jump hosts that the SSH configuration names; None where it names none."""
    connection: asyncssh.SSHClientConnection | None = None
    named = options.tunnel if isinstance(options.tunnel, str) else ""
    if named and hop.depth == _MOST_JUMPS:
        circle = ValueError(f"the jump hosts of {hop.host.address.host} lead in a circle")
        raise refusals.of_configuration(hop.host.name, circle)
    for jump in filter(None, map(str.strip, named.split(","))):
        next_hop = _Hop(host=hop.host, address=_address(jump), jump=jump, depth=hop.depth + 1)
        connection = await _reach(next_hop, handshakes, connection)
    return connection


def _address(jump: str) -> Address:
    """Of `[user@]host[:port]` or the same behind `ssh://`, as ProxyJump has it."""
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
    """A fingerprint does not say of which type its key is, and a server shows one of several: asked for by type."""
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
    """Tries again where the server hung up before it said anything."""
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
            if check.greeted or drops == _MOST_TRIES:
                raise refusals.of_connection(hop.host, options, error, hop.jump, greeted=check.greeted) from error
            await asyncio.sleep(_PAUSE_S * drops * random.uniform(0.5, 1.5))  # noqa: S311 - spreads tries, no secret
        except TROUBLE as error:
            raise refusals.of_connection(hop.host, options, error, hop.jump) from error


async def _within_time(
    hop: _Hop,
    options: asyncssh.SSHClientConnectionOptions,
    tunnel: asyncssh.SSHClientConnection | None,
    check: HostKeyCheck,
    algorithms: Sequence[str] | None,
) -> asyncssh.SSHClientConnection:
    """Raises TimeoutError where the host's time is over and there is no banner, and what asyncssh raises."""
    files = identity_files(options)
    keys: dict[str, Any] = {"client_keys": ()} if files is None else {"client_keys": files, "ignore_encrypted": True}
    more: dict[str, Any] = {}
    if algorithms:
        more["server_host_key_algs"] = algorithms
    if hop.cipher and not options.config.get("Ciphers"):
        more["encryption_algs"] = f"^{hop.cipher}"
    attempt = asyncio.ensure_future(
        asyncssh.connect(
            hop.address.host,
            options=options,
            tunnel=tunnel or (),
            known_hosts=check.known_keys,
            client_factory=lambda: check,
            **keys,
            **more,
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
            # It may have come about in the very moment it was given up.
            if not attempt.cancelled() and attempt.exception() is None:
                attempt.result().abort()
    raise TimeoutError
