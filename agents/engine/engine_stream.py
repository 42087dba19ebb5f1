"""A request to the engine that takes as long as it takes: its body is sent piece by piece, its answer is JSON lines."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from agents.base.errors import AgentError
from agents.engine.engine_api import Connection, refusal, translated

# How soon an event that means "stop" is noticed.
_LOOK = 0.05
_PIECE = 262144

Send = Callable[[bytes], None]


class Stream:
    """One exchange. Closing its connection makes the engine drop the work, which is what `abort` does."""

    def __init__(self, path: str) -> None:
        self._connection = Connection(path, None)
        self._path = path
        self._socket: socket.socket | None = None
        self._aborted = False
        self._lock = threading.Lock()

    def abort(self) -> None:
        """From any thread, at any time: reading and sending end at once, with an AgentError or as at an end."""
        with self._lock:
            self._aborted = True
            if self._socket is not None:
                # Already closed by its reader: there is nothing left to end.
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def post(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: Callable[[Send], None] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The answer's objects as they arrive, after `body` has sent its pieces.

        An end in the middle of the answer looks like an end: whoever reads must know its last word. Raises RefusedError
        where the engine answers with an error status, also in the middle of the body, and AgentError `engine`.
        """
        try:
            self._connect()
            with translated(self._path):
                self._send_head("POST", target, headers or {}, chunked=body is not None)
            if body is not None:
                self._send_body(body)
            with translated(self._path):
                response = self._connection.getresponse()
                if response.status >= http.HTTPStatus.BAD_REQUEST:
                    raise refusal(response.status, response.read())
            yield from _objects(self._path, response)
        finally:
            self._connection.close()

    def get(self, target: str) -> Iterator[bytes]:
        """The answer's bytes as they arrive, in pieces of 256 KiB at most.

        Raises RefusedError where the engine answers with an error status, and AgentError `engine` where the answer is
        cut.
        """
        try:
            self._connect()
            with translated(self._path):
                self._send_head("GET", target, {}, chunked=False)
                response = self._connection.getresponse()
                if response.status >= http.HTTPStatus.BAD_REQUEST:
                    raise refusal(response.status, response.read())
                while True:
                    data = response.read(_PIECE)
                    if not data:
                        return
                    yield data
        finally:
            self._connection.close()

    def _connect(self) -> None:
        with self._lock:
            if self._aborted:
                raise AgentError("engine", "the request was dropped before it was sent", reason="dropped")
            with translated(self._path):
                self._connection.connect()
            # Kept: http.client forgets its socket as soon as it knows that the answer is the last one.
            self._socket = self._connection.sock

    def _send_head(self, method: str, target: str, headers: Mapping[str, str], *, chunked: bool) -> None:
        self._connection.putrequest(method, target)
        for name, value in headers.items():
            self._connection.putheader(name, value)
        if chunked:
            self._connection.putheader("Transfer-Encoding", "chunked")
        else:
            self._connection.putheader("Content-Length", "0")
        self._connection.endheaders()

    def _send_body(self, body: Callable[[Send], None]) -> None:
        try:
            body(self._send_chunk)
            self._connection.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            # The engine has said no before it read all; what it said is still there to be read.
            return

    def _send_chunk(self, data: bytes) -> None:
        if data:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))


def _objects(path: str, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    with response:
        while True:
            with translated(path):
                try:
                    line = response.readline()
                except (http.client.IncompleteRead, ConnectionResetError):
                    return
            if not line:
                return
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError:
                # Cut in the middle; an engine that speaks no JSON at all has no last word either.
                return


@contextmanager
def aborted_by(cancelled: threading.Event, stream: Stream) -> Iterator[None]:
    """While inside, `cancelled` aborts the stream."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(_LOOK):
            if cancelled.is_set():
                stream.abort()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
