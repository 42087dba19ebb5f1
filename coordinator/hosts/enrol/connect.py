"""SSH connections to a host that is being enrolled, with paramiko, one at a time.

The host key is fetched first and checked by the caller; each connection that logs in then requires the same key.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from coordinator import deadlines
from coordinator.errors import ArchloomError, LostError
from coordinator.hosts.enrol.dial import dial, ssh_words
from coordinator.hosts.enrol.keys import Keyring, UserKey, keyring
from coordinator.hosts.ssh.known_hosts import HostKey, Verdict, read_known_hosts
from coordinator.hosts.ssh.route import Route
from coordinator.hosts.ssh.unreachable import at_jump, where

if TYPE_CHECKING:
    import paramiko

_KEY_TYPE_ORDER = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
# sshd closes a connection after six refused keys (sshd_config(5), MaxAuthTries 6; the request `none` is not counted);
# the remaining keys are offered on a new connection.
_MAX_KEYS = 24
# The code of the error for a password that is not accepted.
PASSWORD_REFUSED = "password"  # noqa: S105


@dataclass(slots=True)
class Connection:
    """A paramiko transport; `below` is the connection to the jump host that carries it."""

    transport: paramiko.Transport
    key: HostKey
    below: Connection | None = None

    def close(self) -> None:
        self.transport.close()
        if self.below is not None:
            self.below.close()


@dataclass(frozen=True, slots=True)
class Login:
    """The outcome of a login: `connection` is authenticated, or None where the login was refused.

    `key` is the accepted key, None where the host required none. For a refusal, `allowed` are the authentication
    methods the host offers and `refused` the keys it rejected. `banner` is what the host says before a login
    (sshd_config(5), Banner), as far as it can be read.
    """

    connection: Connection | None
    key: UserKey | None = None
    allowed: tuple[str, ...] = ()
    refused: tuple[UserKey, ...] = ()
    banner: str = ""


def fetch_key(route: Route, timeout: float, types: tuple[str, ...] = ()) -> HostKey:
    """Return the key the host shows, preferably of these types. Raises LostError where it cannot be reached."""
    connection = _connect(route, timeout, types)
    connection.close()
    return connection.key


def log_in(route: Route, keys: Keyring, expected: HostKey, timeout: float) -> Login:
    """Log in with one of the keys to a host that shows the `expected` host key.

    Returns a Login without a connection where the host refuses the keys. Raises LostError for other failures,
    `host_key` where the host shows another host key.
    """
    connection = _expect(route, expected, timeout)
    try:
        allowed = _methods(connection, route)
        if allowed is None:
            return Login(connection)
        banner = (connection.transport.get_banner() or b"").decode("utf-8", "replace").strip()
        refused: list[UserKey] = []
        for key in keys.keys[:_MAX_KEYS] if "publickey" in allowed else ():
            if not connection.transport.is_active():
                connection.close()
                connection = _expect(route, expected, timeout)
            if _takes(connection, route, key):
                return Login(connection, key)
            refused.append(key)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return Login(None, None, allowed, tuple(refused), banner)


def log_in_by_password(route: Route, expected: HostKey, password: str, timeout: float) -> Connection:
    """Log in with this password, in a single attempt. Raises LostError PASSWORD_REFUSED where it is rejected."""
    from paramiko.ssh_exception import AuthenticationException, SSHException

    connection = _expect(route, expected, timeout)
    try:
        more = connection.transport.auth_password(route.user, password)
    except AuthenticationException as error:
        connection.close()
        hint = f"check that it is the password of {route.user} on that host: ssh {ssh_words(route)}"
        raise LostError(f"the password was not accepted for {route}", hint=hint, code=PASSWORD_REFUSED) from error
    except (SSHException, EOFError, OSError) as error:
        connection.close()
        raise _broken(route, error) from error
    except BaseException:
        connection.close()
        raise
    if more:
        connection.close()
        raise _wants_more(route, more)
    return connection


def forwards_ports(connection: Connection) -> bool:
    """Return whether the host allows remote port forwarding, which a tunnel needs."""
    from paramiko.ssh_exception import SSHException

    try:
        port = connection.transport.request_port_forward("127.0.0.1", 0)
        connection.transport.cancel_port_forward("127.0.0.1", port)
    except SSHException:
        return False
    return True


def _connect(route: Route, timeout: float, types: tuple[str, ...] = ()) -> Connection:
    import paramiko
    from paramiko.ssh_exception import SSHException

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # paramiko also logs what it raises
    below = None if route.jump is None else _log_in_to_jump(route.jump, timeout)
    transport = None
    try:
        stream = dial(route, below.transport if below else None, timeout)
        # Typed as one of its own: a stream of any class with these four methods will do.
        transport = paramiko.Transport(cast("socket.socket", stream))
        transport.auth_timeout = deadlines.ENROL_AUTH
        options = transport.get_security_options()
        ordered = sorted(options.key_types, key=lambda key_type: _rank(key_type, types))
        options.key_types = ordered
        transport.start_client(timeout=deadlines.LOGIN)
        return Connection(transport, _shown_key(transport), below)
    except (SSHException, EOFError, OSError) as error:
        _close(transport, below)
        raise _broken(route, error) from error
    except BaseException:
        _close(transport, below)
        raise


def _shown_key(transport: paramiko.Transport) -> HostKey:
    """Return the host key that was shown. Raises TimeoutError where none was: paramiko returns in silence then."""
    if not transport.initial_kex_done:
        raise TimeoutError
    shown = transport.get_remote_server_key()
    return HostKey(shown.get_name(), shown.asbytes(), shown.get_bits())


def _close(transport: paramiko.Transport | None, below: Connection | None) -> None:
    if transport is not None:
        transport.close()
    if below is not None:
        below.close()


def _rank(algorithm: str, types: tuple[str, ...]) -> tuple[int, int]:
    kind = "ssh-rsa" if algorithm in _RSA_SIGNATURES else algorithm
    return (0 if kind in types else 1, _KEY_TYPE_ORDER.index(kind) if kind in _KEY_TYPE_ORDER else len(_KEY_TYPE_ORDER))


def _expect(route: Route, expected: HostKey, timeout: float) -> Connection:
    connection = _connect(route, timeout, (expected.type,))
    if connection.key.blob != expected.blob:
        connection.close()
        message = f"{route.name} showed two host keys in a row: {expected} and then {connection.key}"
        hint = "is its address used by two machines? ping it, switch one of them off, and try again"
        raise LostError(message, hint=hint, code="host_key")
    return connection


def _log_in_to_jump(jump: Route, timeout: float) -> Connection:
    """Return a connection that is logged in to the jump host.

    A jump host is not enrolled: the user sets up its host key and login with ssh. Raises LostError `host_key` where its
    host key is not in known_hosts, `denied` where it accepts none of the user's keys.
    """
    record = read_known_hosts(jump).record()
    hint = f"log in to it once, then run this again: ssh {ssh_words(jump)}"
    own = keyring(jump)
    try:
        shown = fetch_key(jump, timeout, record.types)
        if record.verdict(shown) is not Verdict.KNOWN:
            message = f"{at_jump(jump)}it shows a host key that is not in known_hosts: {shown}"
            raise LostError(message, hint=hint, code="host_key")
        login = log_in(jump, own, shown, timeout)
    finally:
        own.close()
    if login.connection is None:
        raise LostError(
            f"{at_jump(jump)}{jump} accepted none of your keys{refused_keys(login.refused)}", hint=hint, code="denied"
        )
    return login.connection


def _methods(connection: Connection, route: Route) -> tuple[str, ...] | None:
    """Return the authentication methods the host allows; None where it requires none and the login has succeeded."""
    from paramiko.ssh_exception import BadAuthenticationType, SSHException

    try:
        connection.transport.auth_none(route.user)
    except BadAuthenticationType as error:
        return tuple(error.allowed_types)
    except (SSHException, EOFError, OSError) as error:
        raise _broken(route, error) from error
    return None


def _takes(connection: Connection, route: Route, key: UserKey) -> bool:
    from paramiko.ssh_exception import AuthenticationException, SSHException

    try:
        more = connection.transport.auth_publickey(route.user, key.key)
    except (AuthenticationException, SSHException, EOFError, OSError):
        return False
    if more:
        raise _wants_more(route, more)
    return True


def refused_keys(keys: tuple[UserKey, ...]) -> str:
    """Return ` (offered: …)` to append to a message; empty without keys."""
    return f" (offered: {', '.join(key.source for key in keys)})" if keys else ""


def _wants_more(route: Route, more: list[str]) -> LostError:
    return LostError(
        f"{route} asks for more than a key: also {', '.join(more)}",
        hint="archloom logs in with a key only: see AuthenticationMethods in /etc/ssh/sshd_config there",
        code="denied",
    )


def _broken(route: Route, error: Exception) -> ArchloomError:
    from paramiko.ssh_exception import IncompatiblePeer

    hint = f"run ssh -v {ssh_words(route)} for details"
    subject = f"{at_jump(route)}{where(route)}"
    match error:
        case IncompatiblePeer():
            message = f"{subject} has no SSH algorithm in common with archloom: {error}"
            return LostError(message, hint=hint, code="ssh")
        case TimeoutError():
            return LostError(f"{subject} stopped answering", hint=hint, code="timeout")
        case _:
            reason = str(error).partition("\n")[0] or "it closed the connection"
            return LostError(f"{subject} answers, but the login does not complete: {reason}", hint=hint, code="ssh")
