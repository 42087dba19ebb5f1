"""Where a job's Dockerfile may be among the files of its context."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from coordinator.context.offer import LazyOffer
from coordinator.context.tree import ContextManifest
from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.bases import BUILD_PLATFORM, plan_bases
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.descriptors import OCI_MANIFEST, Manifest
from coordinator.domain.image.index import IndexImages
from coordinator.domain.image.references import parse as reference_of
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.run.inputs.base_images import Base
from coordinator.run.inputs.dockerfile_place import copied_dockerfile
from coordinator.run.inputs.gather import Inputs
from coordinator.run.inputs.taken_context import TakenContext
from tests.edges.store.store_bed import AMD64
from tests.unit.dockerfile.context_uses import use

PINNED, FREE = "FROM alpine\nCOPY {} /x\n", "FROM scratch\nCOPY {} /x\n"


def inputs(text: str, *, ignored: bool = False, to_root: bool = False) -> Inputs:
    """Of a context that has the Dockerfile, unless it is ignored; perhaps with a link that leads to its root."""
    dockerfile = parse(text)
    own = ContextEntry(
        path="Dockerfile",
        kind=EntryKind.FILE,
        mode=0o644,
        size=len(text),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
    manifest = ContextManifest(root=Path("/context"), entries=() if ignored else (own,), links_to_root=to_root)
    base = Base(
        reference=reference_of("alpine"),
        manifest=Manifest(raw=b"{}", media_type=OCI_MANIFEST, digest="sha256:0"),
        images=IndexImages(listed=()),
    )
    return Inputs(
        dockerfile=dockerfile,
        dockerfile_path="Dockerfile",
        frontend="",
        contexts={
            AMD64: TakenContext(
                use=use(text, platform=AMD64, configs={"alpine": BaseConfig(platform=AMD64)}),
                manifest=manifest,
                digest="",
                offer=LazyOffer(manifest),
            )
        },
        uses={AMD64: plan_bases(dockerfile, stage="", platform=AMD64, build_platform=BUILD_PLATFORM, build_args={})},
        bases={"alpine": base},
        unstable=(),
        nonce="",
        build_ids={},
    )


@pytest.mark.parametrize(
    ("text", "ignored", "to_root"),
    [
        (FREE.format("."), False, False),
        (FREE.format("link"), False, True),
        (PINNED.format("src"), False, False),
        (PINNED.format("src"), True, False),
        (FREE.format("src"), True, False),
    ],
)
def test_it_may(text: str, *, ignored: bool, to_root: bool):
    """The user's own, as it is, or where no source takes it."""
    assert copied_dockerfile(inputs(text, ignored=ignored, to_root=to_root), AMD64) == ""


@pytest.mark.parametrize(
    ("text", "ignored", "to_root", "named"),
    [
        (PINNED.format("."), False, False, "Dockerfile:2"),
        (FREE.format("."), True, False, "Dockerfile:2"),
        (PINNED.format("*"), False, False, "line 2"),
        (PINNED.format("link/"), False, True, "a link leads a source to the context's root"),
    ],
)
def test_it_would_be_in_the_image(text: str, *, ignored: bool, to_root: bool, named: str):
    """With its bases pinned it is not the user's; where it is ignored, `docker build` copies none."""
    assert named in copied_dockerfile(inputs(text, ignored=ignored, to_root=to_root), AMD64)
