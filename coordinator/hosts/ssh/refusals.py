"""Error messages for failed SSH connections: the reason, and the next command as a hint."""

from __future__ import annotations

import socket

import asyncssh

from coordinator.connect_errors import system_error
from coordinator.domain.causes import Cause
from coordinator.domain.hosts.inventory import Host
from coordinator.domain.visible import file_word, visible_name
from coordinator.errors import LostError
from coordinator.hosts.ssh import keys
from coordinator.hosts.ssh.route import Route
from coordinator.hosts.ssh.unreachable import (
    JUMP_HINT,
    PROXY_HINT,
    at_jump,
    no_answer,
    not_from_jump,
    proxy_failed,
    where,
)

# What OpenSSH's sshd sends after MaxAuthTries refused keys (auth.c, auth_maxtries_exceeded).
_TOO_MANY = "Too many authentication failures"
_BANNER_CHARS = 300


def of_configuration(name: str, error: Exception) -> LostError:
    """Return LostError `ssh_config`: the SSH configuration is invalid; the error names file and line."""
    hint = f"correct it; to see how ssh reads it: ssh -G {name}"
    return LostError(f"host '{name}': the SSH configuration cannot be used: {error}", hint=hint, code="ssh_config")


def of_connection(host: Host, route: Route, error: Exception, *, greeted: bool = False, banner: str = "") -> LostError:
    """Return the LostError for a failed connection attempt.

    `route` is that of the jump host where it failed there. `greeted`: the server had sent its version line. `banner` is
    the text that it sent before the login.
    """
    subject = f"host '{host.name}': {at_jump(route)}"
    match error:
        case asyncssh.PermissionDenied():
            return _denied(subject, route, banner)
        case asyncssh.DisconnectError() if error.reason.startswith(_TOO_MANY):
            return _too_many(subject, route)
        case asyncssh.ChannelOpenError():
            message = f"{subject}{not_from_jump(route, error.reason)}"
            return LostError(message, hint=f"{JUMP_HINT}{route.host}", code=Cause.UNREACHABLE)
        case asyncssh.KeyExchangeFailed():
            message = f"{subject}{where(route)} has no SSH algorithm in common with archloom: {error.reason}"
            return LostError(message, hint="update its sshd (OpenSSH 7.2 or newer)", code="algorithms")
        case asyncssh.ConnectionLost() | ConnectionResetError() if greeted:
            message = f"{subject}{where(route)} answers, but the login does not complete: {_reason(error)}"
            return LostError(message, hint="it may be overloaded: check it, or restart it", code=Cause.CONNECTION)
        case asyncssh.ConnectionLost() | ConnectionResetError():
            message = f"{subject}{where(route)} closed the connection"
            hint = "too many logins at once (MaxStartups of its sshd), or a firewall is in between"
            return LostError(message, hint=hint, code=Cause.CONNECTION)
        case asyncssh.Error():
            message = f"{subject}{where(route)} answers, but not with a usable SSH handshake: {error.reason}"
            return LostError(message, hint="is another service on that port? correct it in the inventory", code="ssh")
        case asyncssh.ChannelListenError() | OSError():
            return _unreachable(subject, host, route, error)
        case _:
            message = f"{subject}{where(route)} answers, but not with a usable SSH handshake: {_reason(error)}"
            return LostError(message, hint=f"try: ssh -v {_login(route)}", code="ssh")


def of_proxy(host: Host, route: Route, words: str) -> LostError:
    """Return the LostError for a ProxyCommand that ended, or that led to no SSH server in time; `words` are its own."""
    message = f"host '{host.name}': {at_jump(route)}{proxy_failed(route, words)}"
    return LostError(message, hint=f"{PROXY_HINT}{_login(route)}", code=Cause.UNREACHABLE)


def _unreachable(subject: str, host: Host, route: Route, error: Exception) -> LostError:
    match system_error(error):
        case socket.gaierror():
            hint = f"correct it in the inventory or ~/.ssh/config, or give the address; try: getent hosts {route.host}"
        case ConnectionRefusedError():
            hint = "on the host: sudo systemctl enable --now ssh; or correct port: in the inventory"
        case _:
            hint = f"is it switched on and plugged in? try: ping -c 1 {route.host}"
    message = f"{subject}{no_answer(route, error, host.connect_timeout)}"
    return LostError(message, hint=hint, code=Cause.UNREACHABLE)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, asyncssh.Error) else str(error)


def _too_many(subject: str, route: Route) -> LostError:
    offered = (
        "the ssh-agent and ~/.ssh hold more keys than it looks at" if route.agent else ", ".join(keys.shown(route))
    )
    return LostError(
        f"{subject}{route.user}@{route.host} refused the login: too many keys were offered ({offered})",
        hint=f"name its key in ~/.ssh/config:\nHost {route.name}\n  IdentityFile FILE\n  IdentitiesOnly yes",
        code="denied",
    )


def _denied(subject: str, route: Route, banner: str) -> LostError:
    login = f"{route.user}@{route.host}"
    if locked := keys.locked(route):
        name = locked[0]
        message = f"{subject}{login} refused the login: the key {name} has a passphrase, and no ssh-agent holds it"
        return LostError(message, hint=f'eval "$(ssh-agent)"; ssh-add {file_word(name)}', code="denied")
    if not (shown := keys.shown(route)):
        message = f"{subject}there is no SSH key to log in as {login}: neither in ~/.ssh nor in an ssh-agent"
        return LostError(message, hint=f"ssh-keygen -t ed25519; ssh-copy-id {_login(route)}", code="denied")
    said = f"; it says: {visible_name(' '.join(banner.split())[:_BANNER_CHARS])}" if banner.strip() else ""
    message = f"{subject}{login} refused the login with {', '.join(shown)}{said}"
    hint = f"wrong user? write user: in the inventory; or install the key there: ssh-copy-id {_login(route)}"
    return LostError(message, hint=hint, code="denied")


def _login(route: Route) -> str:
    port = "" if route.port == asyncssh.DEFAULT_PORT else f"-p {route.port} "
    return f"{port}{route.user}@{route.host}"
