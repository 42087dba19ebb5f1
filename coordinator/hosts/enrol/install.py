"""Adds the user's public key to a board's `~/.ssh/authorized_keys` as one line, and removes it, atomically."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from coordinator import deadlines
from coordinator.errors import LostError
from coordinator.hosts.enrol.connect import Connection
from coordinator.hosts.ssh import login_shell

if TYPE_CHECKING:
    from paramiko import Channel

_MAX_OUTPUT_BYTES, _READ_BYTES = 65536, 4096
_SUBJECT = "the key cannot be installed: "
_EXIT_NOT_WRITTEN = 8
# Not anchored at a line start: output of a login script may precede it on the line.
_ANSWER = re.compile(r"archloom:(added|there|removed|absent)\r?$", re.MULTILINE)
# The scripts are run as `sh -c '…'` by any login shell. They contain nothing that fish or tcsh interpret inside single
# quotes: no `!`, no backslash, no newline, no single quote. The key line comes on stdin, so that no shell parses it.
_BEGIN = 'umask 077; d="${HOME:-$PWD}/.ssh"; f="$d/authorized_keys"; IFS= read -r line || exit 9; '
# Write with cat: dash reports a full disk as an I/O error when its built-in echo writes. Exit status 8: the file could
# not be written. A symbolic link stays one. The new file is complete before mv replaces the old one.
_REPLACE = (
    'chmod 600 "$n" && mv -f "$n" "$f" || { rm -f "$n"; exit 8; }; '
    'if command -v restorecon >/dev/null 2>&1; then restorecon -F "$d" "$f" >/dev/null 2>&1; fi; '
)
_INSTALL = (
    _BEGIN + 'key="${line% *}"; mkdir -p "$d" && chmod 700 "$d" || exit 8; '
    'if test -L "$f"; then f="$(readlink -f "$f")"; fi; n="$f.archloom"; '
    'if test -f "$f" && grep -v "^ *#" "$f" | grep -qF -e "$key"; then '
    'chmod 600 "$f"; echo archloom:there; exit 0; fi; '
    'rm -f "$n"; if test -e "$f"; then cp -p "$f" "$n"; else : >"$n"; fi || { rm -f "$n"; exit 8; }; '
    'if test -s "$n" && test -n "$(tail -c 1 "$n")"; then echo | cat >>"$n"; fi; '
    'echo "$line" | cat >>"$n" && grep -qxF -e "$line" "$n" || { rm -f "$n"; exit 8; }; '
    + _REPLACE
    + "echo archloom:added"
)
_UNINSTALL = (
    _BEGIN + 'if test -L "$f"; then f="$(readlink -f "$f")"; fi; n="$f.archloom"; '
    'if test -f "$f" && grep -qxF -e "$line" "$f"; then :; else echo archloom:absent; exit 0; fi; '
    'rm -f "$n"; cp -p "$f" "$n" && { grep -vxF -e "$line" "$f" >"$n"; test $? -le 1; } || { rm -f "$n"; exit 8; }; '
    + _REPLACE
    + "echo archloom:removed"
)


def mark(holder: str) -> str:
    """Return the comment that ends the lines which archloom adds for this user on this coordinator, and only those."""
    return "archloom:" + re.sub(r"[^A-Za-z0-9._@-]", "-", holder)


def install(connection: Connection, public: str, holder: str) -> bool:
    """Authorize this key; return whether a line was added. Raises LostError and leaves the file unchanged."""
    return _run(connection, _INSTALL, f"{public} {mark(holder)}") == "added"


def uninstall(connection: Connection, public: str, holder: str) -> None:
    """Remove the line that `install` added. Idempotent."""
    _run(connection, _UNINSTALL, f"{public} {mark(holder)}")


def _run(connection: Connection, script: str, line: str) -> str:
    from paramiko.ssh_exception import SSHException

    try:
        channel = connection.transport.open_session(timeout=deadlines.INSTALL_KEY)
        try:
            channel.settimeout(deadlines.INSTALL_KEY)
            channel.exec_command(f"sh -c '{script}'")
            # A login shell that has ended takes no line. What it said is read all the same.
            with suppress(OSError):
                channel.sendall(line.encode() + b"\n")
                channel.shutdown_write()
            stdout, stderr = _output(channel)
            status = channel.recv_exit_status()
        finally:
            channel.close()
    except (SSHException, OSError, EOFError) as error:
        message = f"the login shell on the host could not be used: {str(error) or 'the connection was lost'}"
        raise LostError(message, code="shell") from error
    answer = _ANSWER.search(stdout)
    if answer is None:
        raise _failure(stdout, stderr, is_of_file=status == _EXIT_NOT_WRITTEN)
    return answer[1]


def _output(channel: Channel) -> tuple[str, str]:
    """Return what the script and the login shell print. Raises LostError where they print too much, or do not end."""
    stdout, until = b"", time.monotonic() + deadlines.INSTALL_KEY
    try:
        while data := channel.recv(_READ_BYTES):
            stdout += data
            if len(stdout) > login_shell.MAX_NOISE_BYTES:
                raise login_shell.prints_too_much(_SUBJECT, login_shell.last_words(stdout[-_READ_BYTES:]))
            channel.settimeout(max(0.01, until - time.monotonic()))
    except TimeoutError:
        stderr = channel.recv_stderr(_READ_BYTES) if channel.recv_stderr_ready() else b""
        raise login_shell.hangs(_SUBJECT, deadlines.INSTALL_KEY, login_shell.last_words(stdout, stderr)) from None
    stderr = channel.makefile_stderr("rb").read(_MAX_OUTPUT_BYTES)
    return stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")


def _failure(stdout: str, stderr: str, *, is_of_file: bool) -> LostError:
    last = next((line.strip() for line in reversed(f"{stdout}\n{stderr}".splitlines()) if line.strip()), "nothing")
    message = f"the key could not be written to ~/.ssh/authorized_keys on the host: {last}"
    lower = stderr.lower()
    for words, hint in (
        ("no space left", "make room on it: df -h ~ there shows the disk, docker system df what the engine uses"),
        ("quota exceeded", "make room in that home folder: du -sh ~/* there shows what uses it"),
        ("read-only file system", "make its home writable: mount -o remount,rw / there, and look at dmesg for why"),
        ("permission denied", "make it the login user's own: sudo chown -R USER ~USER/.ssh there"),
    ):
        if words in lower:
            return LostError(message, hint=hint, code="authorized_keys")
    if is_of_file:
        return LostError(message, hint="check the owners: ls -ld ~ ~/.ssh ~/.ssh/* there", code="authorized_keys")
    hint = "give this user a shell that runs commands: sudo usermod -s /bin/sh USER there"
    return LostError(f"the login shell on the host does not run commands; it said: {last}", hint=hint, code="shell")
