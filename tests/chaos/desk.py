"""The user's machine: a home, a store on a disk of its own, and `archloom` as it is started there."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.archloom import Home
from tests.services.board_lab import run
from tests.services.commands import Child, run_limited
from tests.services.paths import ROOT

_DISK_MB = 64
_PATIENCE = 60.0
_HOLD = 'mount -o loop "$1" "$2" && echo up && exec cat >/dev/null'
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """`at` is monotonic."""

    at: float
    text: str


@dataclass(slots=True, eq=False)
class Command:
    """One `archloom` that runs: its lines on stderr as they come, and the events among them."""

    words: tuple[str, ...]
    process: Child
    began: float
    ended: float | None = None
    lines: list[Line] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)
    frozen: list[tuple[float, float]] = field(default_factory=list)
    stdout: str = ""
    _news: threading.Condition = field(default_factory=threading.Condition)
    _readers: list[threading.Thread] = field(default_factory=list)

    @property
    def stderr(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began

    def event(self, wanted: Callable[[Event], bool], over: threading.Event) -> Event | None:
        """The first event that is wanted, as soon as it comes; None where the command ends, or all is over, before."""
        seen = 0
        with self._news:
            while not over.is_set():
                for _, event in self.events[seen:]:
                    seen += 1
                    if wanted(event):
                        return event
                if self.ended is not None:
                    return None
                self._news.wait(0.2)
        return None

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether it ends in so many seconds."""
        with self._news:
            self._news.wait_for(lambda: self.ended is not None, max(seconds, 0))
        return self.ended is not None

    def end(self) -> None:
        """It is gone when this returns, and all of it was read."""
        self.process.end()
        self.wait(_PATIENCE)

    def longest_silence(self) -> tuple[float, str]:
        """Seconds without a line, not counting those in which it was stopped, and the line before."""
        lines = [Line(self.began, "(its start)"), *self.lines, Line(self.ended or time.monotonic(), "(its end)")]
        gaps = [
            (late.at - early.at - sum(_common(early.at, late.at, *span) for span in self.frozen), early.text)
            for early, late in itertools.pairwise(lines)
        ]
        return max(gaps, default=(0.0, ""))

    def read(self) -> None:
        """Begins to read what it says."""
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        fds = (self.process.stderr.fileno(), self.process.stdout.fileno())
        self._readers = [
            threading.Thread(target=work, args=(fd,), daemon=True)
            for work, fd in zip((self._read_lines, self._read_all), fds, strict=True)
        ]
        for thread in self._readers:
            thread.start()

    def _read_lines(self, fd: int) -> None:
        rest = b""
        while data := os.read(fd, 65536):
            *whole, rest = (rest + data).split(b"\n")
            self._take(whole)
        self._take([rest] if rest else [])
        self.process.wait(_PATIENCE)
        self._readers[1].join(_PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        with self._news:
            self.ended = time.monotonic()
            self._news.notify_all()

    def _read_all(self, fd: int) -> None:
        while data := os.read(fd, 65536):
            self.stdout += data.decode("utf-8", "replace")

    def _take(self, lines: list[bytes]) -> None:
        now = time.monotonic()
        with self._news:
            for line in lines:
                text = line.decode("utf-8", "replace")
                self.lines.append(Line(now, text))
                if text.startswith('{"event"'):
                    self.events.append((now, json.loads(text)))
            self._news.notify_all()


def _common(begin: float, end: float, first: float, last: float) -> float:
    return max(0.0, min(end, last) - max(begin, first))


@dataclass(frozen=True, slots=True)
class Desk:
    """`secrets` is the file with every secret that its commands had; `log` what they wrote to ARCHLOOM_LOG."""

    home: Home
    secrets: Path
    log: Path
    _holder: Child
    _disk: Path

    @property
    def inventory(self) -> Path:
        return self.home.folder / "inventory.yaml"

    @property
    def state(self) -> Path:
        """archloom's state folder, as everybody else sees it."""
        return Path(f"/proc/{self._holder.pid}/root{self.home.state}")

    def start(self, *words: str) -> Command:
        process = Child(
            self._command(words),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        command = Command(words, process, time.monotonic())
        command.read()
        return command

    def ask(self, *words: str) -> Any:
        """What a command prints as JSON; None where it fails."""
        done = run_limited(
            self._command([*words, "--json"]),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    def shell(self, command: str) -> str:
        """What a shell command prints that sees the store's disk."""
        return run("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "sh", "-c", command)

    def mount_again(self) -> None:
        """The store's disk is as after a reboot. No command runs."""
        self.shell(f"umount {self.home.state}; mount -o loop {self._disk} {self.home.state}")

    def _command(self, words: Iterator[str] | tuple[str, ...] | list[str]) -> list[str]:
        return [
            *("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "env", "--chdir", str(ROOT)),
            *(sys.executable, "-m", "tests.chaos.recording", str(self.secrets), *words),
        ]

    def _environment(self) -> dict[str, str]:
        return {
            **self.home.environment,
            "ARCHLOOM_INVENTORY": str(self.inventory),
            "ARCHLOOM_LOG": str(self.log),
        }


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """A new one in this folder. Its store's disk is seen by its own commands only, and goes with the last of them."""
    home = Home(folder / "home")
    home.state.mkdir(parents=True)
    disk = folder / "store.img"
    with disk.open("wb") as file:
        file.truncate(_DISK_MB << 20)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(disk))
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD, "desk", str(disk), str(home.state)]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.line() == "up\n", "the store has no disk"
        try:
            yield Desk(home, folder / "secrets.hex", folder / "archloom.log", holder, disk)
        finally:
            holder.communicate()
