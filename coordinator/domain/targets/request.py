"""A user's build request, in a form that can be stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.domain.image import platforms, references
from coordinator.domain.image.platforms import Platform
from coordinator.domain.targets.host_selection import HostSelection, read_on
from coordinator.domain.targets.target import Emulate, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """`on` are the hosts that the user named, empty for any; `pinned` are those named for one platform.

    With `fail_fast`, one failed platform stops the others. `outputs` are the absolute paths of the files that archloom
    writes for this request: they are never part of the context.
    """

    target: Target
    emulate: Emulate = Emulate.AUTO
    on: tuple[str, ...] = ()
    pinned: Mapping[Platform, str] = field(default_factory=dict)
    fail_fast: bool = False
    outputs: tuple[str, ...] = ()

    @property
    def selection(self) -> HostSelection:
        """The hosts that may be used."""
        return HostSelection(emulate=self.emulate, on=self.on, pinned=self.pinned)

    def to_json(self) -> dict[str, object]:
        target = self.target
        return {
            "context": target.context,
            "dockerfile": target.dockerfile,
            "tags": [str(tag) for tag in target.tags],
            "platforms": [str(platform) for platform in target.platforms],
            "stage": target.stage,
            "build_args": dict(target.build_args),
            "labels": dict(target.labels),
            "volatile": list(target.volatile),
            "no_cache": target.no_cache,
            "pull": target.pull,
            "emulate": self.emulate.value,
            "on": list(self.selection.words),
            "fail_fast": self.fail_fast,
            "outputs": list(self.outputs),
        }


def from_stored(data: Mapping[str, Any]) -> BuildRequest:
    """Return the request that `to_json` wrote."""
    on, pinned = read_on(data["on"])
    return BuildRequest(
        target=Target(
            name="default",
            context=data["context"],
            dockerfile=data["dockerfile"],
            tags=tuple(references.parse(tag) for tag in data["tags"]),
            platforms=tuple(platforms.parse(platform) for platform in data["platforms"]),
            stage=data["stage"],
            build_args=data["build_args"],
            labels=data["labels"],
            no_cache=data["no_cache"],
            pull=data["pull"],
            volatile=tuple(data.get("volatile", ())),
        ),
        fail_fast=bool(data.get("fail_fast")),
        outputs=tuple(data.get("outputs", ())),
        emulate=Emulate(data["emulate"]),
        on=on,
        pinned=pinned,
    )
