"""Requests to the engine without a time limit: the body is sent and the answer read piece by piece."""

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

# How often a cancellation event is checked.
_POLL_S = 0.05
_READ_BYTES = 262144

Send = Callable[[bytes], None]


class Stream:
    """One request and its answer. `abort` closes the connection, which makes the engine drop the work."""

    def __init__(self, path: str) -> None:
        self._connection = Connection(path, None)
        self._path = path
        self._socket: socket.socket | None = None
        self._aborted = False
        self._lock = threading.Lock()

    def abort(self) -> None:
        """End reads and sends at once, with an AgentError or as at the end of the answer.

        May be called by any thread at any time.
        """
        with self._lock:
            self._aborted = True
            if self._socket is not None:
                # Already closed by the reading thread.
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def post(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: Callable[[Send], None] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Send the pieces of `body`, then yield the answer's JSON objects as they arrive.

        A truncated answer ends like a complete one: the caller must check for the final message. Raises RefusedError
        where the engine answers with an error status, also before it has read the whole body, and AgentError `engine`.
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
        """Yield the answer's bytes as they arrive, in pieces of 256 KiB at most.

        Raises RefusedError where the engine answers with an error status, and AgentError `engine` where the answer is
        truncated.
        """
        try:
            self._connect()
            with translated(self._path):
                self._send_head("GET", target, {}, chunked=False)
                response = self._connection.getresponse()
                if response.status >= http.HTTPStatus.BAD_REQUEST:
                    raise refusal(response.status, response.read())
                while True:
                    data = response.read(_READ_BYTES)
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
            # For `abort`: http.client drops its own reference once it knows that no further answer will follow.
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
            # The engine refused before it read the whole body; its answer can still be read.
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
                # The line is truncated, or the answer is not JSON: either way the caller gets no final message.
                return


@contextmanager
def aborted_by(cancelled: threading.Event, stream: Stream) -> Iterator[None]:
    """Abort the stream when `cancelled` is set inside the `with` block."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(_POLL_S):
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
