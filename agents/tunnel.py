"""The near end of the tunnel as the engine sees it: a registry on this host's loopback, for one job."""

from __future__ import annotations

import base64
import json
import re
import socket

from agents.errors import AgentError
from agents.spec import Spec

_PATIENCE = 5.0
# What Go's network errors end with, where the other side is not there or goes away.
_BROKEN = re.compile(r"(?:connection refused|connection reset by peer|broken pipe|i/o timeout|\bEOF)\s*$")


def registry(port: int) -> str:
    """The registry's name in references. 127.0.0.0/8 needs no TLS by any engine's defaults."""
    return f"127.0.0.1:{port}"


def credentials(spec: Spec, port: int, secret: str) -> dict[str, str]:
    """The header that lets the engine in: user name is the job's own, which its image is named after."""
    fields = {"username": user(spec), "password": secret, "serveraddress": registry(port)}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}


def user(spec: Spec) -> str:
    """`7f3a-arm64-1` for the image `archloom/7f3a:arm64-1`."""
    return spec.image.partition("/")[2].replace(":", "-")


def broken(port: int, said: str) -> AgentError | None:
    """The AgentError `tunnel` for what the engine said, where it is the tunnel that failed and not the registry."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE).close()
    except OSError as error:
        return AgentError("tunnel", f"the tunnel on port {port} is not there: {error}")
    # The engine may see another loopback than we do, and a tunnel that was broken may be back.
    return AgentError("tunnel", said) if _BROKEN.search(said) else None
