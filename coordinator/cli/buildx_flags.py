"""Flags of `docker buildx build` that archloom does not have yet: each is rejected with a hint on what to do instead.

No flag is ignored: without a flag that changes the image, archloom would publish another image than requested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from coordinator.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A flag of buildx. `takes_value`: the next word is its value, and not the context."""

    names: tuple[str, ...]
    instead: str
    takes_value: bool = True


_LIMITS = "builds run with the engine's own limits; set them on the board's engine"
_CACHE = "leave it out: each board keeps its own layer cache, and finished platforms are reused from the registry"
_ATTEST = "leave it out: archloom adds no attestations yet"
_LATER = "not supported yet"

_FOREIGN = (
    _Foreign(("--add-host",), f"{_LATER}: put the name into DNS or into the board's /etc/hosts"),
    _Foreign(("--allow",), f"{_LATER}: archloom grants no entitlements"),
    _Foreign(("--annotation",), f"{_LATER}: use --label"),
    _Foreign(("--attest",), _ATTEST),
    _Foreign(("--build-context",), f"{_LATER}: copy what is needed into the context"),
    _Foreign(("--builder",), "archloom chooses hosts from the inventory: use --on HOST or -i INVENTORY"),
    _Foreign(("--cache-from",), _CACHE),
    _Foreign(("--cache-to",), _CACHE),
    _Foreign(("--call",), f"{_LATER}: run docker buildx build --call for checks and outlines"),
    _Foreign(("--cgroup-parent",), _LIMITS),
    _Foreign(("--check",), f"{_LATER}: run docker buildx build --check", takes_value=False),
    _Foreign(("--compress",), "leave it out: contexts are sent as they are", takes_value=False),
    _Foreign(("--cpu-period",), _LIMITS),
    _Foreign(("--cpu-quota",), _LIMITS),
    _Foreign(("--cpu-shares", "-c"), _LIMITS),
    _Foreign(("--cpuset-cpus",), _LIMITS),
    _Foreign(("--cpuset-mems",), _LIMITS),
    _Foreign(("--debug", "-D"), "use --progress plain, and archloom logs RUN PLATFORM", takes_value=False),
    _Foreign(("--force-rm",), "leave it out: BuildKit keeps no intermediate containers", takes_value=False),
    _Foreign(("--isolation",), f"{_LATER}: archloom builds on Linux"),
    _Foreign(
        ("--load",),
        "archloom publishes to a registry: leave it out, then docker pull --platform PLATFORM REF",
        takes_value=False,
    ),
    _Foreign(("--memory", "-m"), _LIMITS),
    _Foreign(("--memory-swap",), _LIMITS),
    _Foreign(("--network",), f"{_LATER}: builds use the engine's default network"),
    _Foreign(("--no-cache-filter",), f"{_LATER}: use --no-cache"),
    _Foreign(("--output", "-o"), "archloom publishes to a registry, as --push does: leave it out"),
    _Foreign(("--policy",), f"{_LATER}"),
    _Foreign(("--provenance",), _ATTEST),
    _Foreign(("--resource",), _LIMITS),
    _Foreign(("--rm",), "leave it out: BuildKit keeps no intermediate containers", takes_value=False),
    _Foreign(("--sbom",), _ATTEST),
    _Foreign(("--secret",), f"{_LATER}: secrets must not go into --build-arg, it ends up in the image's history"),
    _Foreign(("--security-opt",), _LIMITS),
    _Foreign(("--shm-size",), _LIMITS),
    _Foreign(("--squash",), "leave it out: use a multi-stage Dockerfile", takes_value=False),
    _Foreign(("--ssh",), f"{_LATER}: fetch private sources before the build, into the context"),
    _Foreign(("--ulimit",), _LIMITS),
)


def foreign_flags(command: F) -> F:
    """Add the flags to a click command as hidden options, each of which raises UsageError."""
    for flag in reversed(_FOREIGN):
        option = click.option(
            *flag.names,
            hidden=True,
            is_eager=True,
            expose_value=False,
            multiple=flag.takes_value,
            is_flag=not flag.takes_value,
            callback=_refusal(flag),
        )
        command = option(command)
    return command


def _refusal(flag: _Foreign) -> Callable[[click.Context, click.Parameter, object], None]:
    def refuse(context: click.Context, _parameter: click.Parameter, given: object) -> None:
        if given and not context.resilient_parsing:
            raise UsageError(f"{flag.names[0]} is a docker buildx flag archloom does not have", hint=flag.instead)

    return refuse
