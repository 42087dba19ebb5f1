"""Where a job's Dockerfile may be among the files of its context."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from coordinator.context.offer import ContextOffer
from coordinator.context.tree import ContextManifest
from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.bases import plan_bases
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.descriptors import OCI_MANIFEST, Manifest
from coordinator.domain.image.references import parse as reference_of
from coordinator.domain.inputs.build_id import ContextEntry, EntryKind
from coordinator.run.inputs.base_images import BUILD_PLATFORM, Base
from coordinator.run.inputs.dockerfile_place import copied_dockerfile
from coordinator.run.inputs.gather import Inputs
from coordinator.run.inputs.taken_context import TakenContext
from tests.edges.store.store_bed import AMD64
from tests.unit.dockerfile.context_uses import use

PINNED, FREE = "FROM alpine\nCOPY {} /x\n", "FROM scratch\nCOPY {} /x\n"


def inputs(text: str, *, ignored: bool = False, link: str = "") -> Inputs:
    """Of a context that has the Dockerfile, unless it is ignored, and perhaps a link `sub/link`."""
    dockerfile = parse(text)
    own = ContextEntry(
        path="Dockerfile",
        kind=EntryKind.FILE,
        mode=0o644,
        size=len(text),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
    folder = ContextEntry(path="sub", kind=EntryKind.DIRECTORY, mode=0o755)
    links = (folder, ContextEntry(path="sub/link", kind=EntryKind.SYMLINK, mode=0o777, link=link)) if link else ()
    manifest = ContextManifest(root=Path("/context"), entries=(*(() if ignored else (own,)), *links))
    base = Base(
        reference=reference_of("alpine"), manifest=Manifest(raw=b"{}", media_type=OCI_MANIFEST, digest="sha256:0")
    )
    return Inputs(
        dockerfile=dockerfile,
        dockerfile_path="Dockerfile",
        contexts={
            AMD64: TakenContext(
                use=use(text, platform=AMD64, configs={"alpine": BaseConfig(platform=AMD64)}),
                manifest=manifest,
                digest="",
                offer=ContextOffer(manifest),
            )
        },
        uses={AMD64: plan_bases(dockerfile, stage="", platform=AMD64, build_platform=BUILD_PLATFORM, build_args={})},
        bases={"alpine": base},
        unstable=(),
        nonce="",
        build_ids={},
    )


@pytest.mark.parametrize(
    ("text", "ignored", "link"),
    [
        (FREE.format("."), False, ""),
        (PINNED.format("src"), False, ""),
        (PINNED.format("src"), True, "../other"),
        (FREE.format("src"), True, ""),
    ],
)
def test_it_may(text: str, *, ignored: bool, link: str):
    """The user's own, as it is, or where no source takes it."""
    assert copied_dockerfile(inputs(text, ignored=ignored, link=link), AMD64) == ""


@pytest.mark.parametrize(
    ("text", "ignored", "link", "named"),
    [
        (PINNED.format("."), False, "", "Dockerfile:2"),
        (FREE.format("."), True, "", "Dockerfile:2"),
        (PINNED.format("*"), False, "", "line 2"),
        (PINNED.format("sub/link/"), False, "..", "sub/link"),
        (PINNED.format("sub/link/"), False, "/", "sub/link"),
        (PINNED.format("sub/link/"), False, "../../..", "sub/link"),
    ],
)
def test_it_would_be_in_the_image(text: str, *, ignored: bool, link: str, named: str):
    """With its bases pinned it is not the user's; where it is ignored, `docker build` copies none."""
    assert named in copied_dockerfile(inputs(text, ignored=ignored, link=link), AMD64)
