"""Set up the login by SSH key: ask for the password once, install the public key, and test the login."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coordinator.domain.visible import file_word
from coordinator.environment import Environment
from coordinator.errors import InterruptedRunError, LostError
from coordinator.hosts.enrol.connect import (
    PASSWORD_REFUSED,
    Connection,
    Login,
    forwards_ports,
    log_in,
    log_in_by_password,
    refused_keys,
)
from coordinator.hosts.enrol.dial import ssh_words
from coordinator.hosts.enrol.install import install, uninstall
from coordinator.hosts.enrol.keys import Keyring, UserKey, create, keyring
from coordinator.hosts.ssh.known_hosts import HostKey
from coordinator.hosts.ssh.route import Route, short
from coordinator.usecases.boards.console import Console

_PASSWORD_TRIES = 3
_BY_PASSWORD = frozenset({"password", "keyboard-interactive"})


@dataclass(frozen=True, slots=True)
class LoginTarget:
    """A host, and the host key it must show. `yes`: the user agrees to everything except host keys."""

    route: Route
    key: HostKey
    timeout: float
    yes: bool = False


def authorize(target: LoginTarget, env: Environment, console: Console) -> None:
    """Make the login by SSH key work. Raises LostError where it cannot; the host is then left unchanged.

    A key pair that was created for it is kept. All questions are asked before anything is written, on the coordinator
    or on the host.
    """
    keys = keyring(target.route)
    try:
        login = log_in(target.route, keys, target.key, target.timeout)
        if login.connection is not None:
            _report_forwarding(login.connection, target.route, console)
            login.connection.close()
            by = f"the key {login.key.source}" if login.key else "no key: the host asks for none"
            console.say(f"{target.route}: login works with {by}")
            return
        _install(target, login, keys, env, console)
    finally:
        keys.close()


def _install(target: LoginTarget, login: Login, keys: Keyring, env: Environment, console: Console) -> None:
    route = target.route
    _check_possible(target, login, keys, console)
    path = route.identities[0] if route.chosen else env.home / ".ssh" / "id_ed25519"
    if not keys.keys:
        _confirm_key_creation(path, target, console)
    if login.banner:
        console.say(f"{route} says:\n{login.banner}")
    connection = _by_password(target, console)
    try:
        if keys.keys:
            own = keys.keys[0]
        else:
            own = create(path)
            console.say(f"created the key {own.source}")
        added = install(connection, own.public, env.holder)
        _check_login(target, own, connection, env.holder if added else "")
        _report_forwarding(connection, route, console)
    finally:
        connection.close()
    verb = "installed" if added else "found"
    console.say(f"{route}: {verb} the key {own.source} in ~/.ssh/authorized_keys there; login works with it")


def _by_password(target: LoginTarget, console: Console) -> Connection:
    """Ask for the password and log in with it, three times at most, as ssh does."""
    for tries_left in reversed(range(_PASSWORD_TRIES)):
        password = console.password(f"Password of {target.route}: ")
        try:
            return log_in_by_password(target.route, target.key, password, target.timeout)
        except LostError as error:
            if error.code != PASSWORD_REFUSED or not tries_left:
                raise
            console.say(f"{error.message}; try again")
    raise AssertionError("there is at least one try")


def _report_forwarding(connection: Connection, route: Route, console: Console) -> None:
    if not forwards_ports(connection):
        console.say(
            f"{route}: its sshd forwards no ports, so images are sent as archives, which takes longer\n"
            "  hint: AllowTcpForwarding yes in /etc/ssh/sshd_config there, then: sudo systemctl reload ssh"
        )


def _check_login(target: LoginTarget, own: UserKey, connection: Connection, holder: str) -> None:
    """Test the login with the key on a second connection. Raises LostError where it fails.

    The line that was added for `holder` is then removed again; an empty `holder` means that no line was added.
    """
    try:
        login = log_in(target.route, Keyring((own,)), target.key, target.timeout)
    except LostError:
        if holder:
            with suppress(LostError):
                uninstall(connection, own.public, holder)
        raise
    if login.connection is not None:
        login.connection.close()
        return
    if holder:
        uninstall(connection, own.public, holder)
    raise LostError(
        f"the key {own.source} is in ~/.ssh/authorized_keys of {target.route}, and is not accepted"
        + ("; it was removed again" if holder else ""),
        hint="on that host: chmod go-w ~ ~/.ssh, and check in the output of sudo sshd -T: pubkeyauthentication,\n"
        "authorizedkeysfile, allowusers",
        code="denied",
    )


def _check_possible(target: LoginTarget, login: Login, keys: Keyring, console: Console) -> None:
    route = target.route
    if not keys.keys and keys.locked:
        file = short(keys.locked[0])
        raise LostError(
            f"the key {file} has a passphrase, and no ssh-agent holds it",
            hint=f'ssh-add {file_word(file)}\nwhere no agent runs, before that: eval "$(ssh-agent)"',
            code="passphrase",
        )
    if not _BY_PASSWORD.intersection(login.allowed):
        offered = refused_keys(login.refused) if login.refused else ": you have none to offer"
        public = keys.keys[0].public if keys.keys else "the public key that ssh-keygen -t ed25519 makes"
        ways = " or ".join(login.allowed) or "no method that archloom knows"
        said = f"; it says: {' '.join(login.banner.split())}" if login.banner else ""
        raise LostError(
            f"{route} accepts only {ways}, and none of your keys{offered}{said}",
            hint=f"is {route.user} the right user? Else add this to its ~/.ssh/authorized_keys there:\n{public}",
            code="denied",
        )
    if not console.is_there:
        problem = (
            f"accepted none of your keys{refused_keys(login.refused)}"
            if keys.keys
            else "asks for a key, and you have none"
        )
        make = "" if keys.keys else "ssh-keygen -t ed25519; "
        raise LostError(
            f"{route} {problem}; there is no terminal to ask for a password",
            hint=f"run it in a terminal, or first: {make}ssh-copy-id {ssh_words(route)}",
            code="denied",
        )


def _confirm_key_creation(path: Path, target: LoginTarget, console: Console) -> None:
    if path.exists():
        message = f"{path} is not a usable key: archloom takes Ed25519, ECDSA and RSA"
        raise LostError(message, hint="add it to an ssh-agent: ssh-add, or make another: ssh-keygen -t ed25519")
    if not target.yes and not console.agrees(f"You have no SSH key yet. Create {short(path)}, without a passphrase?"):
        raise InterruptedRunError("no key was created; nothing was changed")
