"""What a build takes of a disk at least, from a real registry's manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.config.credentials import DockerCredentials
from coordinator.context.tree import scan
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.image.platforms import parse
from coordinator.domain.image.references import parse as parse_reference
from coordinator.domain.targets.request import BuildRequest
from coordinator.domain.targets.target import Target
from coordinator.publish.registry_pool import Registries
from coordinator.run.inputs.disk_estimate import spaces
from coordinator.run.inputs.gather import gather
from tests.acceptance.archloom import context
from tests.edges.run.environments import environment
from tests.services.images import base_image
from tests.services.judges import skopeo_raw

AMD64, ARM64 = parse("linux/amd64"), parse("linux/arm64")


@pytest.mark.registry
async def test_context_and_bases_are_counted(registry, tmp_path: Path):
    """The layers of each platform's own base; a base that no registry has counts nothing."""
    base = base_image(registry, "linux/amd64", "linux/arm64", repository="space/base")
    folder = context(
        tmp_path / "src",
        f"FROM {base.reference} AS a\nFROM localhost:1/none\nCOPY --from=a / /\nCOPY big /\n",
        {"big": b"x" * 100_000},
    )
    target = Target(
        name="x",
        context=str(folder),
        dockerfile=str(folder / "Dockerfile"),
        tags=(parse_reference(f"{registry.address}/space/app:1"),),
        platforms=(AMD64, ARM64),
    )
    async with Registries({}, DockerCredentials({}, tmp_path)) as registries:
        inputs = await gather(BuildRequest(target=target), registries, environment(tmp_path / "home"), print)
    found = spaces(inputs, (AMD64, ARM64))

    size = (await scan(folder, compile_ignore("", ""))).size
    for entry in json.loads(skopeo_raw(base.reference))["manifests"]:
        image = json.loads(skopeo_raw(f"{base.reference.rpartition(':')[0]}@{entry['digest']}"))
        space = found[parse(f"linux/{entry['platform']['architecture']}")]
        assert space == size + sum(layer["size"] for layer in image["layers"])
        assert size > 100_000
