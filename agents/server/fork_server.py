"""A process that starts the processes of jobs: forked from the control channel while that has one thread.

A small board needs a second to start Python and to import the agent, and some milliseconds to fork. A process with
threads must not fork, because their locks stay locked in the child; the control channel has a thread per request. The
term is that of Python's multiprocessing (https://docs.python.org/3/library/multiprocessing.html).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from agents.base.slots import Slot
from agents.server import supervisor

_MAX_REQUEST_BYTES = 65536
# Reported in place of the process that could not be forked.
NOT_FORKED = b"not forked"

# `supervisor.main`, which returns in the short-lived parent of the job's process only.
Main = Callable[[Sequence[str]], int]


class ForkServer:
    """The control channel's end of the connection to the fork server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def start(self, folder: Path, slot: Slot, ready: int, trace: int) -> bool:
        """Start the process of the job in this folder. Return False where the fork server is gone.

        The process gets copies of three descriptors: the slot's, `ready` to report to, and `trace` as its stderr. Where
        it could not be forked, `ready` gets `NOT_FORKED`.
        Any number of threads may call this.
        """
        try:
            # SOCK_SEQPACKET keeps messages whole, so requests of several threads do not mix.
            socket.send_fds(self._connection, [os.fsencode(f"{slot.number} {folder}")], [slot.fd, ready, trace])
        except OSError:
            return False
        return True


def fork(main: Main) -> ForkServer:
    """Fork the server from this process, which must have one thread only. The server ends when this process does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        child = os.fork()
    except OSError:
        child = -1  # too little memory: `start` returns False
    if child:
        theirs.close()
        return ForkServer(ours)
    try:
        ours.close()
        _leave_channel()
        _serve(theirs, main)
    finally:
        os._exit(0)


def _leave_channel() -> None:
    """Let go of stdin, stdout and stderr: an SSH channel stays open until the last copy of them is closed."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.close(nothing)


def _serve(requests: socket.socket, main: Main) -> None:
    while True:
        data, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 3)
        if not data:
            return
        child = _fork(fds[1])
        if child == 0:
            requests.close()
            _start(main, data, fds)
        for fd in fds:
            os.close(fd)
        if child is not None:
            # It ends as soon as it has forked the job's process.
            os.waitpid(child, 0)


def _fork(ready: int) -> int | None:
    """Fork, as os.fork does. Report to `ready` and return None where memory or processes are too few for that."""
    try:
        return os.fork()
    except OSError:
        with suppress(OSError):  # who asked has gone
            os.write(ready, NOT_FORKED)
        return None


def _start(main: Main, request: bytes, fds: Sequence[int]) -> None:
    """Be the parent of a job's process, in a session of its own. Does not return."""
    status = 1
    try:
        os.setsid()
        slot, ready, trace = fds
        os.dup2(trace, 2)
        os.close(trace)
        number, _, folder = os.fsdecode(request).partition(" ")
        status = main(supervisor.arguments(Path(folder), Slot(int(number), slot), ready))
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        # Imported here: it needs a seventh of the time in which this agent starts.
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)
