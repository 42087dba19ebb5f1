"""Whether the Dockerfile of a job may be among the files of its context, where the Engine API takes it from."""

from __future__ import annotations

import hashlib

from coordinator.domain.dockerfile.spare_name import taking_spare_name
from coordinator.domain.image.platforms import Platform
from coordinator.domain.inputs.build_id import EntryKind
from coordinator.run.inputs.gather import Inputs

_TAKING_LINK = "a link leads a source to the context's root"


def copied_dockerfile(inputs: Inputs, platform: Platform) -> str:
    """Return what would copy the Dockerfile of this platform's job; empty where its context may hold it.

    It may hold it where no source takes it, and where it is the user's, with no base pinned, that the sources take.
    """
    context = inputs.contexts[platform]
    taking = taking_spare_name(context.use) or (_TAKING_LINK if context.manifest.links_to_root else "")
    return "" if taking and _is_in_context(inputs, platform) else taking


def _is_in_context(inputs: Inputs, platform: Platform) -> bool:
    if any(use.text in inputs.bases for use in inputs.uses[platform]):
        return False
    digest = hashlib.sha256(inputs.dockerfile.text.encode("utf-8", "surrogateescape")).hexdigest()
    return any(
        entry.path == inputs.dockerfile_path and entry.kind is EntryKind.FILE and entry.digest == digest
        for entry in inputs.contexts[platform].manifest.entries
    )
