"""Our client of a real registry, and images pushed with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.descriptors import OCI_INDEX, OCI_MANIFEST, Descriptor, sha256
from coordinator.domain.secrets import Credential, Secret
from coordinator.registry.client import Registry
from tests.services.fixtures import USER
from tests.services.registry import Registry as Service

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
ARM64 = {"os": "linux", "architecture": "arm64"}
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def known(password: str) -> Credential:
    return Credential(username=USER, password=Secret(password))


class Known:
    def __init__(self, credential: Credential | None = None) -> None:
        self.credential = credential

    def credentials(self, registry: str, repository: str) -> Credential | None:  # noqa: ARG002
        return self.credential


def client(service: Service, credential: Credential | None = None) -> Registry:
    return Registry(RegistrySettings(host=service.address), Known(credential))


async def push_blob(ours: Registry, repository: str, body: bytes) -> dict[str, object]:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    await ours.upload_blob(repository, sha256(body), len(body), chunks)
    return {"digest": sha256(body), "size": len(body)}


async def push_image(
    ours: Registry, repository: str, config: dict[str, object] | bytes, config_type: str = CONFIG_TYPE
) -> Descriptor:
    """An image of one layer with this config, pushed by digest."""
    raw = config if isinstance(config, bytes) else config_bytes(config)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": config_type, **await push_blob(ours, repository, raw)},
        "layers": [{"mediaType": LAYER_TYPE, **await push_blob(ours, repository, b"a layer")}],
    }
    return await push_document(ours, repository, document)


def config_bytes(config: dict[str, object]) -> bytes:
    """With the diff id of the one layer, unless it has others."""
    rootfs = {"type": "layers", "diff_ids": [sha256(b"a layer")]}
    return json.dumps({"rootfs": rootfs, **config}).encode()


async def push_document(ours: Registry, repository: str, document: dict[str, object]) -> Descriptor:
    raw, media_type = json.dumps(document, indent=3).encode(), str(document["mediaType"])
    digest = await ours.put_manifest(repository, sha256(raw), raw, media_type)
    return Descriptor(media_type=media_type, digest=digest, size=len(raw))


def attested(image: Descriptor, platform: dict[str, str], *others: dict[str, object]) -> dict[str, object]:
    """What Docker 29 pushes: an index of the image, and what else there is."""
    return {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [image.to_json() | {"platform": platform}, *others],
    }


def attestation_entry(attestation: Descriptor, image: str, kind: str = "attestation-manifest") -> dict[str, object]:
    return attestation.to_json() | {
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {"vnd.docker.reference.type": kind, "vnd.docker.reference.digest": image},
    }
