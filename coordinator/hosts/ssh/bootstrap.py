"""Starts the agent on a host: one command line finds its file, or receives it on stdin, and executes it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator import deadlines
from coordinator.domain.causes import Cause
from coordinator.errors import LostError
from coordinator.hosts.ssh import login_shell
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
# non-interactive shells. `-I`: a login may export PYTHONPATH or PYTHONHOME of another Python. `-S`: the agent uses the
# standard library only, and what packages add to each start of Python (.pth files, sitecustomize) may be slow, or
# broken.
_SCRIPT = (
    "PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/snap/bin; export PATH; "
    "f={name}; d=; a=; p=; k={trial}; "
    # With `k`, each Python has to prove that it runs: the first may be a shim of pyenv whose versions are gone.
    'runs() {{ w=$($1 -I -S -c "{check}" 2>&1 </dev/null); s=$?; case $w in (*11235) return;; esac; '
    'echo; echo "archloom-boot tried $1 $s"; echo "$w"; return 1; }}; '
    "pick() {{ p=; for c in {pythons}; do command -v $c >/dev/null 2>&1 || continue; "
    '[ -z "$k" ] || runs $c || continue; p=$c; break; done; '
    'if [ -z "$p" ]; then echo; echo "archloom-boot python"; exit 1; fi; }}; '
    "command -v sha256sum >/dev/null 2>&1 || k=1; pick; "
    # The file is checked each time: an SD card or a power cut can damage a file whose size stays right.
    "sum() {{ if command -v sha256sum >/dev/null 2>&1; then sha256sum; else $p -I -S -c "
    '"import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"; fi; }}; '
    'whole() {{ [ -f "$1" ] && [ -O "$1" ] && [ -r "$1" ] && '
    'case "$(sum <"$1")" in ({digest}*) :;; (*) false;; esac; }}; '
    "u=$(id -u); set -- {places}; "
    # Skip symbolic links: in a folder that another user created, one could point to any file of the login user.
    'for c in "$@"; do if [ -L "$c" ]; then continue; fi; [ -O "$c" ] || continue; '
    '[ -L "$c/$f" ] && continue; whole "$c/$f" && d=$c && break; done; '
    'if [ -z "$d" ]; then [ -n "$k" ] || {{ k=1; pick; }}; shift {place}; c=$1; t="$c/.$f.$$"; umask 077; '
    'if [ -L "$c" ]; then :; elif mkdir -p "$c" 2>/dev/null && [ -O "$c" ] && [ -w "$c" ]; then '
    'find "$c" -name "*archloom-agent-*" -type f -mtime +30 -exec rm -f {{}} + ; '
    'echo; echo "archloom-boot send"; head -c {size} >"$t"; '
    # No `mv`: it would move the file into a folder of that name. fsync(2) of the file and then of the folder, so that
    # a power cut leaves the whole file or none.
    'if whole "$t" && {{ [ -f "$c/$f" ] || rm -rf "$c/$f"; }} && $p -I -S -c "import os,sys; a,b,c=sys.argv[1:]; '
    'os.fsync(os.open(a,0)); os.replace(a,b); os.fsync(os.open(c,0))" "$t" "$c/$f" "$c"; '
    'then :; fi; whole "$c/$f" && d=$c; rm -f "$t"; fi; fi; '
    'if [ -z "$d" ]; then echo; echo "archloom-boot place"; exit 1; fi; '
    '{at_first}echo; echo "archloom-boot here $p $a"; exec $p -I -S "$d/$f" {arguments}'
)
# What a host is asked and told once, by the control channel: each is a program more, which takes a small board 10 ms.
_AT_FIRST = 'grep -qw aes /proc/cpuinfo && a=aes; touch -c "$d/$f" "$d/$f".*; '
_CONTROL = ("serve",)
_PYTHONS = (
    *("python3", "/usr/bin/python3", "/usr/local/bin/python3"),
    *("python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9"),
)
# What the agent imports of what a Python may lack, and the version that it takes.
_CHECK = (
    "import fcntl,hashlib,json,socket,subprocess,sys,zlib; "
    "sys.version_info<(3,9) and sys.exit(sys.version); print(11235)"
)
_MARK = b"archloom-boot "
_READ_BYTES = _WRITE_BYTES = 65536
_ARGUMENT = re.compile(r"[a-z0-9-]+\Z")
_DIGEST = re.compile(r"-([0-9a-f]{16})\.pyz\Z")


@dataclass(frozen=True, slots=True)
class AgentFile:
    """The agent's zipapp. Its name ends with the first 16 hex digits of the sha256 of its content, and `.pyz`."""

    path: Path

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


def command_line(
    name: str,
    size: int,
    place: int,
    arguments: tuple[str, ...],
    *,
    pythons: tuple[str, ...] = _PYTHONS,
    trial: bool = False,
) -> str:
    """Return the command line that starts the agent in any login shell.

    `place` is the index in `_PLACES` of the folder that receives the agent's file where no folder has it. The first of
    the `pythons` that is there runs it; with `trial`, the first that runs. Raises ValueError for an argument with
    characters other than `a-z`, `0-9` and `-`.
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
        pythons=" ".join(pythons),
        trial="1" if trial else "",
        check=_CHECK,
        at_first=_AT_FIRST if arguments == _CONTROL else "",
        arguments=" ".join(arguments),
    )
    return f"exec sh -c '{script}'"


@dataclass(frozen=True, slots=True)
class StartedAgent:
    """A started agent. `has_aes`: whether the host's CPU has AES instructions, which only the control channel asks.

    `python` is the command of the Python that runs it, empty where the host did not say.
    """

    channel: SshChannel
    has_aes: bool
    python: str


class Bootstrap:
    """Starts agents on one host, by the login user's shell."""

    def __init__(self, host: str, agent: AgentFile) -> None:
        self._host = host
        self._agent = agent
        self._pythons: tuple[str, ...] = _PYTHONS
        self._has_started = False

    async def start(
        self, connection: asyncssh.SSHClientConnection, arguments: tuple[str, ...], login_s: float = 0.0
    ) -> StartedAgent:
        """Start the agent with these arguments; send its file first where the host does not have it.

        `login_s` is how long the login took, in seconds. Raises LostError `python`, `disk`, `agent` or `connection`,
        OSError where the connection is lost, and asyncssh.Error where the server opens no session.
        """
        began = time.monotonic()
        first_line_s = min(
            max(deadlines.LOGIN_SHELL, deadlines.LOGIN_SHELL_LOGINS * login_s), deadlines.MAX_LOGIN_SHELL
        )
        patience = deadlines.BOOT_LINE if self._has_started else first_line_s
        started = await self._in_a_folder(connection, arguments, patience, trial=False)
        # A Python that does not run ends at once. Only then is each of them tried: that takes a small board a second.
        if arguments == _CONTROL and not await self._speaks(started):
            await started.channel.close()
            started = await self._in_a_folder(connection, arguments, patience, trial=True)
        self._has_started = True
        self._pythons = tuple(filter(None, dict.fromkeys((started.python, *_PYTHONS))))
        _log.debug("%s: agent %s begins, %.2f s", self._host, " ".join(arguments), time.monotonic() - began)
        return started

    async def _speaks(self, started: StartedAgent) -> bool:
        try:
            return await started.channel.reader.has_more()
        except BaseException:
            await started.channel.abort()
            raise

    async def _in_a_folder(
        self, connection: asyncssh.SSHClientConnection, arguments: tuple[str, ...], patience: float, *, trial: bool
    ) -> StartedAgent:
        """Start the agent in the first folder that takes its file. `patience` is how long its shell may be silent."""
        name, size = self._agent.path.name, self._agent.path.stat().st_size
        for place in range(len(_PLACES)):
            line = command_line(name, size, place, arguments, pythons=self._pythons, trial=trial)
            channel = await run(connection, line)
            try:
                words = await _Startup(channel, self._host, self._agent, patience).words()
            except BaseException:
                await channel.abort()
                raise
            if words is not None:
                return StartedAgent(channel, "aes" in words, next((word for word in words if word in _PYTHONS), ""))
            await channel.close()
        raise LostError(
            f"host '{self._host}': no folder there can hold the agent ({size // 1024} KiB)",
            hint="make room, or make ~/.cache writable for the login user",
            code=Cause.DISK,
        )


class _Startup:
    """The output of one start of the script: marked lines, among what the login shell prints."""

    def __init__(self, channel: SshChannel, host: str, agent: AgentFile, patience: float) -> None:
        self._channel = channel
        self._subject = f"host '{host}': "
        self._agent = agent
        self._patience = patience
        self._buffer = b""
        self._noise = 0
        self._last_line = b""
        self._tried: dict[str, str] = {}

    async def words(self) -> list[str] | None:
        """Return the words after `archloom-boot here`, printed just before exec; None where the folder is unusable.

        What follows that line is left in the channel.
        """
        try:
            while (line := await self._line()) is not None:
                match line.removeprefix(_MARK).decode("ascii", "replace").split() if line.startswith(_MARK) else ():
                    case ["here", *words]:
                        self._channel.reader.unread(self._buffer)
                        return words
                    case ["send"]:
                        await self._send()
                    case ["place"]:
                        return None
                    case ["tried", python, status]:
                        self._tried[python] = f"exit status {status}"
                    case ["python"]:
                        raise login_shell.no_python(self._subject, self._tried)
                    case _:
                        self._note(line)
        except TimeoutError:
            await self._channel.kill()
            printed = login_shell.last_words(self._last_line, self._buffer, self._channel.stderr_so_far)
            raise login_shell.hangs(self._subject, self._patience, printed) from None
        raise await self._ended()

    async def _line(self) -> bytes | None:
        """Return the next line without its end; None at the end. Raises TimeoutError where none comes in time."""
        async with asyncio.timeout(self._patience):
            while b"\n" not in self._buffer:
                if not (data := await self._channel.reader.read(_READ_BYTES)):
                    self._note(self._buffer)
                    return None
                self._buffer += data
                if len(self._buffer) > login_shell.MAX_NOISE_BYTES:
                    break
        line, _, self._buffer = self._buffer.partition(b"\n")
        if line.startswith(_MARK):
            self._patience = deadlines.BOOT_LINE
        return line

    def _note(self, line: bytes) -> None:
        """Keep a line that is not the script's, as what the shell printed last."""
        self._noise += len(line) + 1
        self._last_line = line.strip() or self._last_line
        if self._tried and (words := login_shell.last_words(line)):
            self._tried[next(reversed(self._tried))] = words
        if self._noise > login_shell.MAX_NOISE_BYTES:
            raise login_shell.prints_too_much(self._subject, login_shell.last_words(self._last_line))

    async def _send(self) -> None:
        """Send the agent's file. On a broken pipe return: the script reports the full folder on its next line."""
        data = self._agent.data
        try:
            for start in range(0, len(data), _WRITE_BYTES):
                self._channel.writer.write(data[start : start + _WRITE_BYTES])
                await self._channel.writer.drain()
        except BrokenPipeError:
            return

    async def _ended(self) -> LostError:
        ending = await self._channel.close()
        printed = login_shell.last_words(self._last_line, ending.words)
        if ending.exit_status is None and not printed:
            message = f"{self._subject}the connection was lost while the agent started"
            return LostError(message, code=Cause.CONNECTION)
        return login_shell.runs_nothing(self._subject, printed)
