"""Signs of life of this host, for a coordinator that waits: whether its engine and its disk still answer."""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from agents.wire.frames import Replies

# How often a check is repeated while it is asked about, and when it counts as no longer asked about.
_PAUSE_S, _UNASKED_S = 2.0, 30.0
# A shorter silence is none: a busy engine on a small board takes its time.
_LEAST_SILENCE_S = 1.0
_BEAT_S = 10.0
_BLOCK = 4096


class Watch:
    """Repeats a check in a thread of its own, which may hang in it, and knows for how long it has not succeeded."""

    def __init__(self, check: Callable[[], None], pause: float = _PAUSE_S) -> None:
        self._check = check
        self._pause = pause
        self._lock = threading.Lock()
        self._runs = False
        self._asked_at = 0.0
        self._since = 0.0

    def silence(self) -> float:
        """Return for how many seconds the check has not succeeded, 0.0 where it has. The first call starts it."""
        now = time.monotonic()
        with self._lock:
            self._asked_at = now
            if not self._runs:
                self._runs, self._since = True, 0.0
                threading.Thread(target=self._run, daemon=True).start()
            silence = now - self._since if self._since else 0.0
        return silence if silence >= _LEAST_SILENCE_S else 0.0

    def _run(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                if now - self._asked_at > _UNASKED_S:
                    self._runs = False
                    return
                self._since = self._since or now
            # An engine that is down does not answer either.
            with suppress(Exception):
                self._check()
                with self._lock:
                    self._since = 0.0
            time.sleep(self._pause)


class Vitals(NamedTuple):
    """The watches of a host."""

    engine: Watch
    disk: Watch

    def read(self) -> dict[str, object]:
        """Return the answer to `ping`. Never waits."""
        return {"engine": self.engine.silence(), "disk": self.disk.silence()}


def read_disk(path: str) -> None:
    """Read a block of the file past the page cache (`O_DIRECT`, open(2)): return once its disk has answered.

    Returns at once where the file is on no disk, as on tmpfs. An error of the disk is an answer.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, _BLOCK) as block:
                os.preadv(descriptor, [block], 0)
        finally:
            os.close(descriptor)


@contextmanager
def beating(replies: Replies, path: str, interval: float = _BEAT_S) -> Iterator[None]:
    """Send an empty line every 10 s while the block runs: this process lives, and the disk of this file answers."""
    over = threading.Event()

    def beat() -> None:
        with suppress(OSError):
            while not over.wait(interval):
                read_disk(path)
                replies.beat()

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()
