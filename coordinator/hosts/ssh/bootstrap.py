"""Starting the agent on a board: one command line that finds it there, or takes it from stdin, and becomes it."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.errors import LostError
from coordinator.hosts.ssh.channel import SshChannel, run

if TYPE_CHECKING:
    import asyncssh

_log = logging.getLogger("archloom.ssh")

# Where the agent's file may lie, the best place first: a home can be read-only, full or not there at all. Python
# reads it, so it may lie where nothing may be executed.
_PLACES = (
    '"${XDG_CACHE_HOME:-${HOME:-/}/.cache}/archloom"',
    "/var/tmp/archloom-$(id -u)",  # noqa: S108 - made 0700, and used only where it is ours
    "/tmp/archloom-$(id -u)",  # noqa: S108
    "/dev/shm/archloom-$(id -u)",  # noqa: S108
)
# Between single quotes any login shell passes this on as it stands: it has no quote, no newline, no backslash (fish)
# and no exclamation mark (csh). PATH is completed because shells that are not interactive often have a short one.
_SCRIPT = (
    "PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/snap/bin; export PATH; "
    "f={name}; n={size}; d=; a=; p=; "
    "for c in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do "
    "command -v $c >/dev/null 2>&1 && p=$c && break; done; "
    'if [ -z "$p" ]; then echo; echo "archloom-boot python"; exit 1; fi; '
    "grep -qw aes /proc/cpuinfo && a=aes; "
    "set -- {places}; "
    # In a folder that others may have made, a file of ours may be a link they made to anything of ours.
    'for c in "$@"; do if [ -L "$c" ]; then continue; fi; [ -O "$c" ] || continue; '
    '[ -L "$c/$f" ] && continue; '
    '[ -f "$c/$f" ] && [ -O "$c/$f" ] && [ $(wc -c <"$c/$f") -eq $n ] && d=$c && break; done; '
    'if [ -z "$d" ]; then shift {place}; c=$1; t="$c/.$f.$$"; umask 077; '
    'if [ -L "$c" ]; then :; elif mkdir -p "$c" 2>/dev/null && [ -O "$c" ] && [ -w "$c" ]; then '
    'find "$c" -name "*archloom-agent-*" -type f -mtime +30 -exec rm -f {{}} + ; '
    'echo; echo "archloom-boot send"; head -c $n >"$t"; '
    'if [ -f "$t" ] && [ $(wc -c <"$t") -eq $n ] && mv -f "$t" "$c/$f"; then d=$c; else rm -f "$t"; fi; fi; fi; '
    'if [ -z "$d" ]; then echo; echo "archloom-boot place"; exit 1; fi; '
    'touch -c "$d/$f" "$d/$f".*; echo; echo "archloom-boot here $a"; exec $p "$d/$f" {arguments}'
)
_MARK = b"archloom-boot "
_MOST_NOISE = 65536
_PIECE = 65536
_ARGUMENT = re.compile(r"[a-z0-9-]+\Z")


@dataclass(frozen=True, slots=True)
class AgentFile:
    """The agent's zipapp. Its name has the hash of its content."""

    path: Path

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


def command_line(name: str, size: int, place: int, arguments: tuple[str, ...]) -> str:
    """For any login shell. `place` says where the agent is put if it is not there, counted from 0."""
    for word in arguments:
        if not _ARGUMENT.match(word):
            raise ValueError(f"{word!r} cannot be an argument of the agent")
    script = _SCRIPT.format(name=name, size=size, places=" ".join(_PLACES), place=place, arguments=" ".join(arguments))
    return f"exec sh -c '{script}'"


@dataclass(frozen=True, slots=True)
class Booted:
    """`has_aes`: whether the board's CPU encrypts with AES in hardware."""

    channel: SshChannel
    has_aes: bool


async def boot(
    connection: asyncssh.SSHClientConnection,
    host: str,
    agent: AgentFile,
    arguments: tuple[str, ...],
) -> Booted:
    """The agent with these arguments, its file sent first where the board does not have it.

    Raises LostError `python`, `disk` or `agent`, OSError where the connection dies, and asyncssh.Error where the
    server gives no session.
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
            return Booted(channel, "aes" in words)
        await channel.close()
    raise LostError(
        f"host '{host}': no folder there takes the agent ({size // 1024} KiB)",
        hint="make room, or make ~/.cache writable for the login user",
        code="disk",
    )


async def _started(channel: SshChannel, host: str, agent: AgentFile) -> list[str] | None:
    """What the script said when it was about to become the agent; None where this place does not take it."""
    noise = 0
    last = b""
    while line := await channel.reader.line():
        if not line.startswith(_MARK):
            noise += len(line)
            last = line.strip() or last
            if noise > _MOST_NOISE:
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
                hint = "on the board: sudo apt install python3"
                raise LostError(f"host '{host}': there is no Python 3 there", hint=hint, code="python")
            case _:
                break
    raise await _no_shell(channel, host, last)


async def _send(channel: SshChannel, agent: AgentFile) -> None:
    """A place that turns out to be full reads no further, and says so next."""
    data = agent.data
    try:
        for start in range(0, len(data), _PIECE):
            channel.writer.write(data[start : start + _PIECE])
            await channel.writer.drain()
    except BrokenPipeError:
        return


async def _no_shell(channel: SshChannel, host: str, last: bytes) -> LostError:
    ending = await channel.close()
    said = "; ".join(filter(None, [last.decode("utf-8", "replace"), *ending.words.splitlines()[-1:]]))
    if ending.exit_status is None and not said:
        return LostError(f"host '{host}': the connection was lost while the agent started", code="connection")
    why = f": {said}" if said else ""
    return LostError(
        f"host '{host}': its login shell does not run our command{why}",
        hint="the login user needs a usual shell, and no ForceCommand; try: ssh HOST sh -c true",
        code="agent",
    )
