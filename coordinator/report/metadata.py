"""The metadata of a run for programs: the keys of buildx's `--metadata-file`, and archloom's own."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.domain.image.references import parse
from coordinator.domain.run.model import Job, Run

_OF_CHILD = ("digest", "config_digest", "host", "mode", "attempts", "seconds", "pin")


def metadata(run: Run, descriptor: Mapping[str, object]) -> dict[str, object]:
    """Return the metadata of a published run; `descriptor` is that of the index (`mediaType`, `digest`, `size`).

    `containerimage.digest`, `containerimage.descriptor` and `image.name` are as buildx writes them; `archloom` holds
    the run, the target and, per platform, where and how it was built.
    """
    tags = [tag.reference for tag in run.tags]
    return {
        "containerimage.digest": descriptor["digest"],
        "containerimage.descriptor": descriptor,
        "image.name": ",".join(_full_name(tag) for tag in tags),
        "archloom": {
            "run": run.id,
            "target": "default",
            "platforms": {str(job.platform): _of_job(job) for job in run.jobs},
        },
    }


def _of_job(job: Job) -> dict[str, object]:
    child = job.child or {}
    return {"build_id": job.build_id, "reused": job.reused, **{key: child.get(key) for key in _OF_CHILD}}


def _full_name(tag: str) -> str:
    reference = parse(tag)
    return f"{reference.name}:{reference.target}"
