"""The repository an archive's image goes to: layers of bases and of earlier jobs are not uploaded again."""

from __future__ import annotations

import json
import uuid
from types import SimpleNamespace

import pytest

from coordinator.domain.image.descriptors import Descriptor
from coordinator.domain.image.references import parse
from coordinator.publish.registry_pool import Registries
from coordinator.run.steps.registry_destination import RegistryDestination
from tests.edges.broker.broker_bed import Known
from tests.services.images import base_image

pytestmark = pytest.mark.registry


async def test_a_base_s_layer_is_the_base_s_own_blob(registry, own_registry):
    """Mounted within a registry, streamed between two, and not asked for where the base is not to be had."""
    base = base_image(registry, "linux/amd64", repository=f"repository/{uuid.uuid4().hex[:8]}")
    reference = parse(base.reference).with_digest(base.children["linux/amd64"])
    other = own_registry()
    async with Registries({}, Known()) as registries:
        source = await registries.registry(registry.address)
        manifest = json.loads((await source.get_manifest(reference.repository, reference.digest)).raw)
        config = json.loads(await source.get_blob(reference.repository, manifest["config"]["digest"], 1 << 20))
        [diff_id] = config["rootfs"]["diff_ids"]
        for target in (registry, other):
            into = parse(f"{target.address}/repository/{uuid.uuid4().hex[:8]}:1")
            sink = RegistryDestination(registries, into, [SimpleNamespace(reference=reference)], {})

            found = await sink.layer(diff_id)

            assert found.digest == manifest["layers"][0]["digest"]
            assert await sink.has(found.digest)
        gone = parse(base.reference).with_digest("sha256:" + "0" * 64)
        assert await RegistryDestination(registries, into, [SimpleNamespace(reference=gone)], {}).layer(diff_id) is None


async def test_a_layer_of_an_earlier_job_is_used_while_it_is_there(registry):
    """Jobs of one run share what they brought, each repository its own; what was collected is uploaded again."""
    into, elsewhere = (parse(f"{registry.address}/repository/{uuid.uuid4().hex[:8]}:1") for _ in range(2))
    known: dict[tuple[str, str], Descriptor] = {}
    blob = base_image(registry, "linux/amd64", repository=into.repository)
    async with Registries({}, Known()) as registries:
        source = await registries.registry(registry.address)
        raw = (await source.get_manifest(into.repository, blob.children["linux/amd64"])).raw
        layer = json.loads(raw)["layers"][0]
        there = Descriptor(media_type="", digest=layer["digest"], size=layer["size"])
        gone = Descriptor(media_type="", digest="sha256:" + "1" * 64, size=1)
        first = RegistryDestination(registries, into, [], known)
        first.remember("sha256:a", there)
        first.remember("sha256:b", gone)

        assert await RegistryDestination(registries, into, [], known).layer("sha256:a") == there
        assert await RegistryDestination(registries, into, [], known).layer("sha256:b") is None
        assert await RegistryDestination(registries, elsewhere, [], known).layer("sha256:a") is None
