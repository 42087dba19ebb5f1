"""The near end of the tunnel as the engine sees it: a registry on this host's loopback, for one job."""

from __future__ import annotations

import base64
import json
import re
import socket

from agents.base.errors import AgentError
from agents.job.spec import Spec

_PATIENCE = 5.0
# What Go's network errors end with, where the other side is not there or goes away.
_BROKEN = re.compile(r"(?:connection refused|connection reset by peer|broken pipe|i/o timeout|\bEOF)\s*$")
_NOBODY = re.compile(r"dial tcp [^ ]*:(\d+): connect: connection refused\s*$")


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
    """The AgentError for what the engine said, where it is the way to the registry that failed.

    `loopback` where the tunnel is here and the engine finds nobody there: it has a loopback of its own, as rootless
    engines and those in machines of their own do. Else `tunnel`.
    """
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE).close()
    except OSError as error:
        return AgentError("tunnel", f"the tunnel on port {port} is not there: {error}")
    nobody = _NOBODY.search(said)
    if nobody is not None and int(nobody[1]) == port:
        message = f"the engine has another loopback: it finds nobody on port {port}, where the tunnel is"
        return AgentError("loopback", message)
    # A tunnel that was broken may be back.
    return AgentError("tunnel", said) if _BROKEN.search(said) else None
