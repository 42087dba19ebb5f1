"""The engine's own HTTP API, over its unix socket.

Paths carry no API version, so the engine speaks its newest one: a fixed version would one day be older than the oldest
it accepts (https://docs.docker.com/reference/api/engine/#api-version-matrix), and no call here changed between them.
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

_ROOTFUL = "/var/run/docker.sock"
# An engine on an SD card that writes back a large layer answers late, not never.
_PATIENCE = 60.0


class RefusedError(AgentError):
    """The engine answered, with an HTTP error and its own sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("engine", message, reason="refused")
        self.status = status


class Connection(http.client.HTTPConnection):
    """HTTP over the unix socket at `path`; `timeout` is in seconds a read or a write may take, None for ever."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # http.client keeps the timeout it was made with; a stream has none.
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class EngineSocket:
    """One engine. Methods raise AgentError `engine` (`reason`: absent, denied, down, odd) or RefusedError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def version(self) -> dict[str, Any]:
        """`GET /version`: Version, ApiVersion, MinAPIVersion, Os, Arch."""
        return self._object("/version")

    def info(self) -> dict[str, Any]:
        """`GET /info`: ID, DockerRootDir, Driver, SecurityOptions and more."""
        return self._object("/info")

    def call(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """A short call; None where the answer has no body."""
        connection = Connection(self.path, _PATIENCE)
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
    """The path of the engine's socket: DOCKER_HOST, else the first of the usual places where somebody listens.

    Where nobody does it is the first that exists, else the first, so that using it says why. Raises AgentError
    `engine` (reason odd) where DOCKER_HOST names no unix socket.
    """
    host = environ.get("DOCKER_HOST", "")
    if host:
        if not host.startswith("unix://"):
            raise AgentError("engine", f"DOCKER_HOST is {host}, expected unix:// and a path", reason="odd")
        return host[len("unix://") :]
    places = [_ROOTFUL]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        places.append(f"{runtime}/docker.sock")
    # A session without a login manager, such as cron's, has no variable but may have the folder.
    places.append(f"/run/user/{os.getuid()}/docker.sock")
    listening = (place for place in places if _listens(place))
    present = (place for place in places if os.path.lexists(place))
    return next(listening, None) or next(present, _ROOTFUL)


def target(path: str, query: Mapping[str, str] | None = None) -> str:
    """Path and query of a request. Names of images keep their `/`, `:` and `@`."""
    escaped = quote(path, safe="/:@")
    return f"{escaped}?{urlencode(query)}" if query else escaped


def refusal(status: int, body: bytes) -> RefusedError:
    """What an answer with an error status says."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the engine answered HTTP {status}: {body[:200]!r}"
    return RefusedError(status, message.strip())


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Around socket operations: what breaks becomes an AgentError that tells absent, denied and down apart."""
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
    return AgentError("engine", f"what listens at {path} {what}", reason="odd")


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
