"""Images that containerd's store keeps as indexes: what is pushed of them, and what becomes the child."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.engine import archives, engines, images
from agents.engine.push import push
from agents.engine.tunnel import grant_user
from agents.job.spec import Spec
from coordinator.broker.grant import PushedManifest
from coordinator.domain.image.descriptors import OCI_INDEX
from coordinator.domain.image.platforms import parse
from coordinator.domain.image.references import Reference
from coordinator.image.archive_import import import_archive
from coordinator.image.child import CheckedImage, read_child
from coordinator.publish.registry_pool import Registries
from coordinator.run.steps.registry_destination import RegistryDestination
from tests.edges.agents.engine_bed import job
from tests.edges.broker.broker_bed import Known, brokered
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.registry import Registry
from tests.services.ssh_home import forwarded

pytestmark = [pytest.mark.engine, pytest.mark.registry]

ARM64 = parse("linux/arm64")


@dataclass(frozen=True, slots=True)
class Farmed:
    """A board whose engine this process's agent uses, and a registry that it reaches through a broker alone."""

    board: Board
    registry: Registry
    home: Path

    async def push(self, spec: Spec, repository: str) -> PushedManifest:
        """What the broker saw."""
        async with brokered() as (broker, port):
            with (
                broker.grant(grant_user(spec), push=Reference(self.registry.address, repository)) as grant,
                forwarded(self.home, self.board, f"127.0.0.1:{port}") as inside,
            ):
                words = (inside, grant.repository, "image", grant.secret.reveal(), lambda *_: None, threading.Event())
                said = await asyncio.to_thread(push, spec, *words)
        assert grant.pushed is not None
        assert said["digest"] == grant.pushed.digest
        return grant.pushed


@pytest.fixture(params=["stored", "serviced"])
def farmed(request, engines: Mapping[str, Board], registry: Registry, tmp_path: Path, monkeypatch) -> Farmed:
    board = engines[request.param]
    monkeypatch.setenv("DOCKER_HOST", f"unix://{board.engine_socket}")
    return Farmed(board, registry, tmp_path)


@asynccontextmanager
async def registries() -> AsyncIterator[Registries]:
    async with Registries({}, Known()) as opened:
        yield opened


async def child_of(registry: Registry, repository: str, digest: str) -> CheckedImage:
    async with registries() as opened:
        return await read_child(await opened.registry(registry.address), repository, digest, ARM64)


def build_with_attestations(board: Board, name: str) -> None:
    """As an engine does that is not told to leave them out."""
    board.run(
        "mkdir -p /tmp/attested && cd /tmp/attested && printf 'FROM scratch\\nCOPY Dockerfile /\\n' >Dockerfile &&"
        f" docker buildx build --builder default --provenance=true --platform linux/arm64 -t {name} . 2>&1"
    )


async def test_an_image_with_attestations_is_pushed_with_them(farmed: Farmed, tmp_path: Path) -> None:
    """The index travels whole: the image in it is the child, and its attestations follow it."""
    with job(tmp_path, "buildx", "", "linux/arm64") as made:
        build_with_attestations(farmed.board, made.spec.image)

        pushed = await farmed.push(made.spec, "stored/attested")

    child = await child_of(farmed.registry, "stored/attested", pushed.digest)
    assert pushed.media_type == OCI_INDEX
    assert child.digest != pushed.digest
    assert [entry.subject for entry in child.attestations] == [child.digest]


async def test_an_image_with_attestations_leaves_as_an_archive_with_them(farmed: Farmed, tmp_path: Path) -> None:
    """The same child by the other way, when its layers are as the engine would push them."""
    begun: dict[str, Any] = {}
    pieces: list[bytes] = []
    with job(tmp_path, "buildx", "", "linux/arm64") as made:
        build_with_attestations(farmed.board, made.spec.image)
        pushed = await farmed.push(made.spec, "stored/both")
        await asyncio.to_thread(archives.save, made.spec, begun.update, pieces.append)

    async with registries() as opened:
        sink = RegistryDestination(opened, Reference(farmed.registry.address, "stored/archived"), (), {})
        manifest = await import_archive(
            all_of(pieces), sink, tmp_path, image_id=begun["image_id"], wanted=ARM64, what="the archive"
        )

    child = await child_of(farmed.registry, "stored/archived", manifest.digest)
    assert child.digest == (await child_of(farmed.registry, "stored/both", pushed.digest)).digest
    assert len(child.attestations) == 1


async def all_of(pieces: Sequence[bytes]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


async def test_of_an_index_that_is_not_whole_the_childs_image_is_pushed(farmed: Farmed, tmp_path: Path) -> None:
    """Left to itself the engine pushes its own platform's image, where it has that one too."""
    base = base_image(farmed.registry, "linux/amd64", "linux/arm64", "linux/arm/v7", repository="stored/base")
    with job(tmp_path, "buildx", "", "linux/arm64") as made:
        with forwarded(farmed.home, farmed.board, farmed.registry.address) as port:
            name = f"127.0.0.1:{port}/stored/base:1"
            for platform in ("linux/amd64", "linux/arm64"):
                farmed.board.docker("pull", "--quiet", "--platform", platform, name)
            farmed.board.docker("tag", name, made.spec.image)
            farmed.board.docker("rmi", name)
        assert images.inspect(engines.local_engine(), made.spec.image)["Id"] == base.digest

        pushed = await farmed.push(made.spec, "stored/part")

    assert pushed.digest == base.children["linux/arm64"]
