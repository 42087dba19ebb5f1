"""Runs the ProxyCommand of a route as ssh does: by the user's shell, with a socket as its stdin and stdout."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress

from coordinator.hosts.ssh.login_shell import last_words

_READ_BYTES = 4096


class ProxyCommand:
    """A running ProxyCommand. `socket` leads to it, and ends when it ends."""

    def __init__(self, command: str) -> None:
        self.socket, theirs = socket.socketpair()
        self._words: str | None = None
        self._closing = threading.Lock()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            # In a session of its own: Ctrl-C in the terminal must not end it, and it is ended with all it started.
            self._process = subprocess.Popen(
                [shell, "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError:
            self.socket.close()
            self._stderr.close()
            raise
        finally:
            theirs.close()

    def close(self, grace_s: float = 0.0) -> str:
        """End it with all it started, and return the last line it wrote to stderr, else its exit status.

        That is empty where it has said nothing and had not ended within `grace_s`.
        """
        # paramiko closes it in its own thread too.
        with self._closing:
            if self._words is None:
                self._words = self._end(grace_s)
        return self._words

    def _end(self, grace_s: float) -> str:
        self.socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        status = self._process.returncode
        if status is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        with self._stderr as stderr:
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _READ_BYTES))
            return last_words(stderr.read()) or ("" if status is None else f"exit status {status}")
