"""Our client of a scripted registry, and the answers most tests need."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import OCI_INDEX, sha256
from coordinator.domain.secrets import Credential, Secret
from coordinator.registry.client import Registry
from tests.edges.registry.scripted_server import HostSelection, Reply, Script, Scripted, scripted

RAW = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
DIGEST = sha256(RAW)
BLOB = b"layer" * 100_000
BLOB_DIGEST = sha256(BLOB)
PING = Reply(200)


class Known:
    def __init__(self, credential: Credential | None = None) -> None:
        self.credential = credential

    def credentials(self, registry: str, repository: str) -> Credential | None:  # noqa: ARG002
        return self.credential


ANN = Credential(username="ann", password=Secret("secret"))


class Pauses:
    """Takes the client's pauses without making them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@asynccontextmanager
async def client(
    script: Script, credential: Credential | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Registry, Scripted, Pauses]]:
    """A client of a scripted registry, whose dice always show the middle."""
    pauses = Pauses()
    async with scripted(script) as server:
        settings = RegistrySettings(host=f"{host}:{server.port}", http=True)
        async with Registry(settings, Known(credential), random=lambda: 0.5, sleep=pauses.sleep) as registry:
            yield registry, server, pauses


def after_ping(*replies: Reply | Callable[[HostSelection], Reply]) -> Script:
    """Answers the ping, then these in turn, the last for ever."""
    left = list(replies)

    def script(asked: HostSelection) -> Reply:
        if asked.path == "/v2/":
            return PING
        reply = left.pop(0) if len(left) > 1 else left[0]
        return reply if isinstance(reply, Reply) else reply(asked)

    return script


def manifest_reply(raw: bytes = RAW, **headers: str) -> Reply:
    return Reply(
        200, raw, {"Content-Type": OCI_INDEX, **{name.replace("_", "-"): text for name, text in headers.items()}}
    )


def error_reply(status: int, code: str, message: str = "no", detail: object = None) -> Reply:
    errors = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return Reply(status, json.dumps(errors).encode(), {"Content-Type": "application/json"})
