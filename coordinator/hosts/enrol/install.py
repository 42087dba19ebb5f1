"""The user's public key in a board's `~/.ssh/authorized_keys`: one line, put there whole and taken away again."""

from __future__ import annotations

import re

from coordinator.errors import LostError
from coordinator.hosts.enrol.connect import Connection

_PATIENCE_S = 30.0
_MOST = 65536
_NOT_WRITTEN = 8
# What a login shell prints first need not end its line.
_ANSWER = re.compile(r"archloom:(added|there|removed|absent)\r?$", re.MULTILINE)
# Run as `sh -c '…'` by whatever login shell there is. What fish or tcsh would read inside single quotes is not in it:
# no `!`, no backslash, no newline, no single quote. The line comes by stdin, so no shell reads it either.
_BEGIN = 'umask 077; d="$HOME/.ssh"; f="$d/authorized_keys"; IFS= read -r line || exit 9; '
# cat writes, as dash calls a full disk an I/O error when its own echo meets it. Exit 8: the file could not be written.
# A file that is a link stays one. The new text is whole beside it before it takes its place.
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
    """The last word of the lines that archloom adds for this user of this machine, and of no others."""
    return "archloom:" + re.sub(r"[^A-Za-z0-9._@-]", "-", holder)


def install(connection: Connection, public: str, holder: str) -> bool:
    """Let this key in; whether a line had to be added for it. Raises LostError, with the file as it was."""
    return _run(connection, _INSTALL, f"{public} {mark(holder)}") == "added"


def uninstall(connection: Connection, public: str, holder: str) -> None:
    """Take the line away that `install` added. Fine where there is none."""
    _run(connection, _UNINSTALL, f"{public} {mark(holder)}")


def _run(connection: Connection, script: str, line: str) -> str:
    from paramiko.ssh_exception import SSHException

    try:
        channel = connection.transport.open_session(timeout=_PATIENCE_S)
        try:
            channel.settimeout(_PATIENCE_S)
            channel.exec_command(f"sh -c '{script}'")
            channel.sendall(line.encode() + b"\n")
            channel.shutdown_write()
            said = channel.makefile("rb").read(_MOST).decode("utf-8", "replace")
            complaint = channel.makefile_stderr("rb").read(_MOST).decode("utf-8", "replace")
            status = channel.recv_exit_status()
        finally:
            channel.close()
    except (SSHException, OSError, EOFError) as error:
        message = f"the login shell there could not be used: {str(error) or 'the connection was lost'}"
        raise LostError(message, code="shell") from error
    answer = _ANSWER.search(said)
    if answer is None:
        raise _failure(said, complaint, is_of_file=status == _NOT_WRITTEN)
    return answer[1]


def _failure(said: str, complaint: str, *, is_of_file: bool) -> LostError:
    last = next((line.strip() for line in reversed(f"{said}\n{complaint}".splitlines()) if line.strip()), "nothing")
    message = f"the key could not be written to ~/.ssh/authorized_keys there: {last}"
    lower = complaint.lower()
    for words, hint in (
        ("no space left", "make room on it: df -h ~ there shows the disk, docker system df what the engine takes"),
        ("quota exceeded", "make room in that home folder: du -sh ~/* there shows what takes it"),
        ("read-only file system", "make its home writable: mount -o remount,rw / there, and look at dmesg for why"),
        ("permission denied", "make it the login user's own: sudo chown -R USER ~USER/.ssh there"),
    ):
        if words in lower:
            return LostError(message, hint=hint, code="authorized_keys")
    if is_of_file:
        return LostError(message, hint="ls -ld ~ ~/.ssh ~/.ssh/* there shows whose they are", code="authorized_keys")
    hint = "give this user a shell that runs commands: sudo usermod -s /bin/sh USER there"
    return LostError(f"the login shell there does not run commands; it said: {last}", hint=hint, code="shell")
