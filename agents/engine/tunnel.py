"""The host's end of the SSH tunnel: to the engine, a registry on the host's loopback for one job."""

from __future__ import annotations

import base64
import json
import re
import socket

from agents.base.errors import AgentError
from agents.job.spec import Spec, job_of

_CONNECT_TIMEOUT_S = 5.0
# Ends of Go's network errors for a peer that does not listen or closes the connection.
_CONNECTION_LOST = re.compile(r"(?:connection refused|connection reset by peer|broken pipe|i/o timeout|\bEOF)\s*$")
_CONNECTION_REFUSED = re.compile(r"dial tcp [^ ]*:(\d+): connect: connection refused\s*$")


def registry(port: int) -> str:
    """Return the registry's name in references. By default every engine accepts 127.0.0.0/8 without TLS."""
    return f"127.0.0.1:{port}"


def credentials(spec: Spec, port: int, secret: str) -> dict[str, str]:
    """Return the engine's X-Registry-Auth header, with the job's user name and this `secret` as the password."""
    fields = {"username": grant_user(spec), "password": secret, "serveraddress": registry(port)}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}


def grant_user(spec: Spec) -> str:
    """Return the user of the job's grant: the job's name on the host, by which the broker finds the grant."""
    return job_of(spec.image)


def broken(port: int, said: str) -> AgentError | None:
    """Return the AgentError for the engine's error `said` where the connection to the registry failed, else None.

    `loopback` where the agent reaches the tunnel and the engine does not: the engine has its own loopback, as rootless
    engines and engines in a virtual machine do. Else `tunnel`.
    """
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return AgentError("tunnel", f"the tunnel on port {port} cannot be reached: {error}")
    refused = _CONNECTION_REFUSED.search(said)
    if refused is not None and int(refused[1]) == port:
        message = f"the engine has another loopback interface: nothing listens on its port {port}, where the tunnel is"
        return AgentError("loopback", message)
    # The tunnel may have broken and reconnected since.
    return AgentError("tunnel", said) if _CONNECTION_LOST.search(said) else None
