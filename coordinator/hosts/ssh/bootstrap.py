"""Starts the agent on a host: one command line finds its file, or receives it on stdin, and executes it."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.ssh.channel import SshChannel, run

if TYPE_CHECKING:
    import asyncssh

_log = logging.getLogger("archloom.ssh")

# Candidate folders for the agent's file, best first: a home folder can be read-only, full or absent. Python reads the
# file, so a filesystem mounted noexec will do.
_PLACES = (
    '"${XDG_CACHE_HOME:-${HOME:-/}/.cache}/archloom"',
    "/var/tmp/archloom-$u",  # noqa: S108 - created with 0700, and used only where this user owns it
    "/tmp/archloom-$u",  # noqa: S108
    "/dev/shm/archloom-$u",  # noqa: S108
)
# The script is passed to sh in single quotes, which any login shell leaves unchanged: it contains no single quote, no
# newline, no backslash (fish) and no exclamation mark (csh). PATH is extended because it is often short in
# non-interactive shells. `-S`: the agent uses the standard library only, and what packages add to each start of Python
# (.pth files, sitecustomize) may be slow, or broken.
_SCRIPT = (
    "PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/snap/bin; export PATH; "
    "f={name}; d=; a=; p=; "
    "for c in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do "
    "command -v $c >/dev/null 2>&1 && p=$c && break; done; "
    'if [ -z "$p" ]; then echo; echo "archloom-boot python"; exit 1; fi; '
    # The file is checked each time: an SD card or a power cut can damage a file whose size stays right.
    "sum() {{ if command -v sha256sum >/dev/null 2>&1; then sha256sum; else $p -S -c "
    '"import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"; fi; }}; '
    'whole() {{ [ -f "$1" ] && [ -O "$1" ] && [ -r "$1" ] && '
    'case "$(sum <"$1")" in ({digest}*) :;; (*) false;; esac; }}; '
    "u=$(id -u); set -- {places}; "
    # Skip symbolic links: in a folder that another user created, one could point to any file of the login user.
    'for c in "$@"; do if [ -L "$c" ]; then continue; fi; [ -O "$c" ] || continue; '
    '[ -L "$c/$f" ] && continue; whole "$c/$f" && d=$c && break; done; '
    'if [ -z "$d" ]; then shift {place}; c=$1; t="$c/.$f.$$"; umask 077; '
    'if [ -L "$c" ]; then :; elif mkdir -p "$c" 2>/dev/null && [ -O "$c" ] && [ -w "$c" ]; then '
    'find "$c" -name "*archloom-agent-*" -type f -mtime +30 -exec rm -f {{}} + ; '
    'echo; echo "archloom-boot send"; head -c {size} >"$t"; '
    # No `mv`: it would move the file into a folder of that name. fsync(2) of the file and then of the folder, so that
    # a power cut leaves the whole file or none.
    'if whole "$t" && {{ [ -f "$c/$f" ] || rm -rf "$c/$f"; }} && $p -S -c "import os,sys; a,b,c=sys.argv[1:]; '
    'os.fsync(os.open(a,0)); os.replace(a,b); os.fsync(os.open(c,0))" "$t" "$c/$f" "$c"; '
    'then :; fi; whole "$c/$f" && d=$c; rm -f "$t"; fi; fi; '
    'if [ -z "$d" ]; then echo; echo "archloom-boot place"; exit 1; fi; '
    '{at_first}echo; echo "archloom-boot here $a"; exec $p -S "$d/$f" {arguments}'
)
# What a host is asked and told once, by the control channel: each is a program more, which takes a small board 10 ms.
_AT_FIRST = 'grep -qw aes /proc/cpuinfo && a=aes; touch -c "$d/$f" "$d/$f".*; '
_CONTROL = ("serve",)
_MARK = b"archloom-boot "
_MAX_NOISE_BYTES = 65536
_WRITE_BYTES = 65536
_ARGUMENT = re.compile(r"[a-z0-9-]+\Z")
_DIGEST = re.compile(r"-([0-9a-f]{16})\.pyz\Z")


@dataclass(frozen=True, slots=True)
class AgentFile:
    """The agent's zipapp. Its name ends with the first 16 hex digits of the sha256 of its content, and `.pyz`."""

    path: Path

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


def command_line(name: str, size: int, place: int, arguments: tuple[str, ...]) -> str:
    """Return the command line that starts the agent in any login shell.

    `place` is the index in `_PLACES` of the folder that receives the agent's file where no folder has it. Raises
    ValueError for an argument with characters other than `a-z`, `0-9` and `-`.
    """
    for word in arguments:
        if not _ARGUMENT.match(word):
            raise ValueError(f"{word!r} cannot be an argument of the agent")
    script = _SCRIPT.format(
        name=name,
        digest=_DIGEST.findall(name)[0],
        size=size,
        places=" ".join(_PLACES),
        place=place,
        at_first=_AT_FIRST if arguments == _CONTROL else "",
        arguments=" ".join(arguments),
    )
    return f"exec sh -c '{script}'"


@dataclass(frozen=True, slots=True)
class StartedAgent:
    """A started agent. `has_aes`: whether the host's CPU has AES instructions, which only the control channel asks."""

    channel: SshChannel
    has_aes: bool


async def start_agent(
    connection: asyncssh.SSHClientConnection,
    host: str,
    agent: AgentFile,
    arguments: tuple[str, ...],
) -> StartedAgent:
    """Start the agent with these arguments; send its file first where the host does not have it.

    Raises LostError `python`, `disk`, `agent` or `connection`, OSError where the connection is lost, and asyncssh.Error
    where the server opens no session.
    """
    size = agent.path.stat().st_size
    began = time.monotonic()
    for place in range(len(_PLACES)):
        channel = await run(connection, command_line(agent.path.name, size, place, arguments))
        try:
            words = await _started(channel, host, agent)
        except BaseException:
            await channel.abort()
            raise
        if words is not None:
            _log.debug("%s: agent %s begins, %.2f s", host, " ".join(arguments), time.monotonic() - began)
            return StartedAgent(channel, "aes" in words)
        await channel.close()
    raise LostError(
        f"host '{host}': no folder there can hold the agent ({size // 1024} KiB)",
        hint="make room, or make ~/.cache writable for the login user",
        code=Cause.DISK,
    )


async def _started(channel: SshChannel, host: str, agent: AgentFile) -> list[str] | None:
    """Return the words after `archloom-boot here`, printed just before exec; None where the folder is unusable."""
    noise = 0
    last_line = b""
    while line := await channel.reader.line():
        if not line.startswith(_MARK):
            noise += len(line)
            last_line = line.strip() or last_line
            if noise > _MAX_NOISE_BYTES:
                break
            continue
        match line.removeprefix(_MARK).decode("ascii", "replace").split():
            case ["here", *words]:
                return words
            case ["send"]:
                await _send(channel, agent)
            case ["place"]:
                return None
            case ["python"]:
                hint = "on the host: sudo apt install python3"
                raise LostError(f"host '{host}': there is no Python 3 there", hint=hint, code="python")
            case _:
                break
    raise await _no_shell(channel, host, last_line)


async def _send(channel: SshChannel, agent: AgentFile) -> None:
    """Send the agent's file. On a broken pipe return: the script reports the full folder on its next line."""
    data = agent.data
    try:
        for start in range(0, len(data), _WRITE_BYTES):
            channel.writer.write(data[start : start + _WRITE_BYTES])
            await channel.writer.drain()
    except BrokenPipeError:
        return


async def _no_shell(channel: SshChannel, host: str, last_line: bytes) -> LostError:
    ending = await channel.close()
    output = "; ".join(filter(None, [last_line.decode("utf-8", "replace"), *ending.words.splitlines()[-1:]]))
    if ending.exit_status is None and not output:
        return LostError(f"host '{host}': the connection was lost while the agent started", code=Cause.CONNECTION)
    detail = f": {output}" if output else ""
    return LostError(
        f"host '{host}': its login shell does not run the agent's command{detail}",
        hint="give the login user a shell such as /bin/sh, and no ForceCommand; try: ssh HOST sh -c true",
        code="agent",
    )
