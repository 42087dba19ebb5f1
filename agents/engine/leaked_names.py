"""Names of the tunnel's registry that an agent gave to images and could not remove, as it was killed or the board off.

The agent removes these names itself at the end of each push and pull. They would keep the images forever.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from agents.base.errors import AgentError
from agents.engine import images
from agents.engine.engine_api import EngineSocket

_PORT = re.compile(r"127\.0\.0\.1:(\d{1,5})/")
# The names of jobs: run, platform and attempt, as the coordinator makes them.
_PUSHED_TAG = re.compile(r"127\.0\.0\.1:\d+/push:[0-9a-f]{8}-[a-z0-9-]+-\d+\Z")
PUSHED_DIGEST = re.compile(r"127\.0\.0\.1:\d+/push@sha256:")
_BUILT = re.compile(r"archloom/[0-9a-f]{8}:[a-z0-9-]+-\d+\Z")
# Bases: architecture, variant and number. `<none>` stands where a pull by digest has no tag.
PULLED = re.compile(
    r"127\.0\.0\.1:\d+/(?:amd64|386|arm64|arm|riscv64|ppc64le|s390x|mips64le|mips64|mipsle|mips|loong64)(?:v\d+)?base\d+"
    r"[@:](?:sha256:|<none>)"
)
_CONNECT_TIMEOUT_S = 1.0


def remove_leaked(engine: EngineSocket) -> list[str]:
    """Remove such names where nobody listens on their port: another coordinator may push or pull through it now.

    Return the names. One that cannot be removed is left for the next time. Raises AgentError `engine`.
    """
    removed: list[str] = []
    closed: dict[str, bool] = {}
    for name in [name for image in engine.call("GET", "/images/json") or [] for name in tunnel_names(image)]:
        port = _PORT.match(name)
        if port is None:
            continue
        if port[1] not in closed:
            closed[port[1]] = _nobody_listens(int(port[1]))
        if closed[port[1]]:
            try:
                images.untag(engine, name)
            except AgentError:
                continue
            removed.append(name)
    return removed


def name_in_use(engine: EngineSocket) -> str:
    """Return such a name whose port somebody listens on: a run pushes or pulls now. Empty where there is none."""
    for image in engine.call("GET", "/images/json") or []:
        for name in tunnel_names(image):
            port = _PORT.match(name)
            if port is not None and not _nobody_listens(int(port[1])):
                return name
    return ""


def tunnel_names(image: dict[str, Any]) -> Iterator[str]:
    """Yield the names that a push or pull through a tunnel gave to this image of the engine's list.

    A pushed digest alone may be of the user's own registry: it counts beside another name of archloom. The tag comes
    first: with containerd's store the digest goes with it.
    """
    tags, digests = _texts(image.get("RepoTags")), _texts(image.get("RepoDigests"))
    pushed = [name for name in tags if _PUSHED_TAG.match(name)]
    yield from pushed
    if pushed or any(_BUILT.match(name) for name in tags):
        yield from (name for name in digests if PUSHED_DIGEST.match(name))
    yield from (name for name in digests if PULLED.match(name))


def _texts(names: Any) -> list[str]:  # noqa: ANN401 - JSON
    return [name for name in names if isinstance(name, str)] if isinstance(names, Iterable) else []


def _nobody_listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_CONNECT_TIMEOUT_S):
            return False
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
