"""Client of the engine's HTTP API, over its unix socket.

Paths have no API version, so the engine uses its newest: a fixed version would become older than the oldest it accepts
(https://docs.docker.com/reference/api/engine/#api-version-matrix), and the calls made by the agent are the same in all.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from agents.base import login
from agents.base.errors import AgentError

_ROOTFUL_SOCKET = "/var/run/docker.sock"
# An engine that writes a large layer back to an SD card may answer late.
_CALL_TIMEOUT_S = 60.0


class RefusedError(AgentError):
    """The engine answered with an HTTP error `status` and its own message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("engine", message, reason="refused")
        self.status = status


class Connection(http.client.HTTPConnection):
    """HTTP over the unix socket at `path`; `timeout` limits one read or write, in seconds; None is no limit."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # HTTPConnection applies its timeout only in its own connect(); a stream has none.
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class EngineSocket:
    """One engine. Methods raise AgentError `engine` (`reason`: absent, denied, down, odd) or RefusedError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._version: dict[str, Any] | None = None

    def version(self) -> dict[str, Any]:
        """`GET /version`: Version, ApiVersion, MinAPIVersion, Os, Arch. The engine is asked once."""
        if self._version is None:
            self._version = self._object("/version")
        return self._version

    def info(self) -> dict[str, Any]:
        """`GET /info`: ID, DockerRootDir, Driver, SecurityOptions and more."""
        return self._object("/info")

    def ping(self) -> None:
        """`GET /_ping`: return once the engine has answered, however long that takes."""
        connection = Connection(self.path, None)
        try:
            with translated(self.path):
                connection.request("GET", "/_ping")
                connection.getresponse().read()
        finally:
            connection.close()

    def call(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Make a short call and return the JSON of the answer; None where it has no body."""
        connection = Connection(self.path, _CALL_TIMEOUT_S)
        try:
            with translated(self.path):
                connection.request(method, target(path, query))
                response = connection.getresponse()
                body = response.read()
        finally:
            connection.close()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise refusal(response.status, body)
        try:
            return json.loads(body) if body.strip() else None
        except ValueError as error:
            raise _odd(self.path, f"answered {path} with something that is not JSON") from error

    def _object(self, path: str) -> dict[str, Any]:
        answer = self.call("GET", path)
        if not isinstance(answer, dict):
            raise _odd(self.path, f"answered {path} with no JSON object")
        return answer


def find_socket(environ: Mapping[str, str]) -> str:
    """Return the path of the engine's socket: DOCKER_HOST, else the first default path that accepts connections.

    Where none does, return the first that exists, else the first, so that the connection error tells the reason.
    Raises AgentError `engine` (reason odd) where DOCKER_HOST names no unix socket.
    """
    host = environ.get("DOCKER_HOST", "")
    if host:
        if not host.startswith("unix://"):
            raise AgentError("engine", f"DOCKER_HOST is {host}, expected unix:// and a path", reason="odd")
        return host[len("unix://") :]
    places = [_ROOTFUL_SOCKET]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        places.append(f"{runtime}/docker.sock")
    # A process outside a login session, such as cron's, lacks the variable, but the folder may exist.
    places.append(f"/run/user/{os.getuid()}/docker.sock")
    listening = (place for place in places if _listens(place))
    present = (place for place in places if os.path.lexists(place))
    return next(listening, None) or next(present, _ROOTFUL_SOCKET)


def target(path: str, query: Mapping[str, str] | None = None) -> str:
    """Return the request target: path and query, escaped. Image names keep their `/`, `:` and `@`."""
    escaped = quote(path, safe="/:@")
    return f"{escaped}?{urlencode(query)}" if query else escaped


def refusal(status: int, body: bytes) -> RefusedError:
    """Return the RefusedError for an answer with an error status."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the engine answered HTTP {status}: {body[:200]!r}"
    return RefusedError(status, message.strip())


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn errors of socket operations into AgentError `engine` with reason absent, denied or down."""
    try:
        yield
    except FileNotFoundError as error:
        message = f"no container engine was found: {path} does not exist"
        raise AgentError("engine", message, reason="absent") from error
    except PermissionError as error:
        raise AgentError("engine", _denied(path), reason="denied") from error
    except (OSError, http.client.HTTPException) as error:
        message = f"the engine at {path} does not answer: {str(error) or type(error).__name__}"
        raise AgentError("engine", message, reason="down") from error


def _denied(path: str) -> str:
    group, user = "docker", login.user()
    with suppress(OSError, KeyError):
        group = Path(path).group()
    return f"user {user} may not use {path}: add them to the {group} group (sudo usermod -aG {group} {user})"


def _odd(path: str, what: str) -> AgentError:
    return AgentError("engine", f"the service at {path} {what}", reason="odd")


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
