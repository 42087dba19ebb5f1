"""What a user asked for, in a form that can be stored and asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.domain import references
from coordinator.domain.platforms import Platform, parse
from coordinator.domain.target import Emulate, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """`on` are the hosts the user named, empty for any."""

    target: Target
    emulate: Emulate = Emulate.AUTO
    on: tuple[str, ...] = ()

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
            "no_cache": target.no_cache,
            "pull": target.pull,
            "emulate": self.emulate.value,
            "on": list(self.on),
        }


def from_json(data: Mapping[str, Any]) -> BuildRequest:
    """The request that `to_json` wrote."""
    platforms: tuple[Platform, ...] = tuple(parse(text) for text in data["platforms"])
    target = Target(
        name="default",
        context=data["context"],
        dockerfile=data["dockerfile"],
        tags=tuple(references.parse(text) for text in data["tags"]),
        platforms=platforms,
        stage=data["stage"],
        build_args=data["build_args"],
        labels=data["labels"],
        no_cache=data["no_cache"],
        pull=data["pull"],
    )
    return BuildRequest(target=target, emulate=Emulate(data["emulate"]), on=tuple(data["on"]))
