"""Whether a host may build a platform in this run, in which mode, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from coordinator.domain.dockerfile.newer_syntax import FIRST_VERSION, SYNTAX_HINT
from coordinator.domain.hosts.facts import Builder, Facts
from coordinator.domain.hosts.inventory import Host, HostState, Kind, Use
from coordinator.domain.hosts.problems import GIB, SAME_MACHINE, SMALL_MEMORY, version
from coordinator.domain.image.platforms import Mode, Platform
from coordinator.domain.targets.target import Emulate


class Frontend(StrEnum):
    """What parses the Dockerfile: the engine's built-in frontend, or the image that its `# syntax` line names."""

    BUILTIN = "builtin"
    IMAGE = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequirements:
    """One job to place. `space` is the minimum its context and bases take on the engine's disk, in bytes.

    `copied_dockerfile` names the line that would copy the Dockerfile if it were among the files of the context, where
    `docker build` copies none or the user's; else it is empty. The Engine API takes a Dockerfile from nowhere else.
    `newer_syntax` names what the built-in frontend of Docker before 23 cannot read; else it is empty.
    """

    platform: Platform
    frontend: Frontend = Frontend.BUILTIN
    space: int = 0
    copied_dockerfile: str = ""
    newer_syntax: str = ""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A host without facts from this probe, and why. `alive`: its address answered, so the host is not switched off.

    `known` are its facts from the last time it answered.
    """

    message: str
    hint: str = ""
    alive: bool = False
    known: Facts | None = None


class RejectionReason(StrEnum):
    """Why a host is rejected for a platform."""

    NOT_ASKED = "not_asked"
    DRAINED = "drained"
    USE = "use"
    NOT_EMULATOR = "not_emulator"
    PIN = "pin"
    UNREACHABLE = "unreachable"
    UNUSABLE = "unusable"
    BLOCKED = "blocked"
    DUPLICATE = "twin"
    PLATFORM = "platform"
    CONTRADICTED = "contradicted"
    BOARD = "board"
    EMULATION = "emulation"
    EMULATE_LIST = "emulate_list"
    ENGINE = "engine"
    MEMORY = "memory"
    DISK = "disk"


# Less would be shown as 0.0 GiB.
_LEAST_SHOWN_BYTES = GIB // 20
# A share of the disk that is enough for an engine to go on working.
_SMALL_MIN_FREE = 0.05
_TEMPORARY = frozenset(
    {RejectionReason.UNREACHABLE, RejectionReason.UNUSABLE, RejectionReason.BLOCKED, RejectionReason.DISK}
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A host that does not get a platform, and why. `reason` is displayed after the host's name and a colon."""

    host: str
    why: RejectionReason
    reason: str
    hint: str = ""

    @property
    def passes(self) -> bool:
        """Whether the host may take the job at another time, with an unchanged request."""
        return self.why in _TEMPORARY


@dataclass(frozen=True, slots=True)
class Choice:
    """A host that can build the platform, and its mode and builder."""

    host: str
    mode: Mode
    builder: Builder
    reason: str


def assess(
    wanted: JobRequirements, host: Host, found: Facts | Unreachable, emulate: Emulate, on: Sequence[str]
) -> Choice | Rejection:
    """Return how the host builds the platform, or why it does not.

    `on` are the hosts that the request names, empty for any. Naming a host overrides what is only a preference:
    `use: [run]`, little memory, little disk.
    """
    refused = rejected_unprobed(wanted.platform, host, emulate, on)
    if refused is not None:
        return refused
    if isinstance(found, Unreachable):
        return _unreachable(wanted.platform, host, found, emulate)
    mode = found.mode(wanted.platform)
    refused = _by_platform(wanted.platform, host, found, emulate) or _blocked(host, found)
    if refused is None and host.name not in on and Use.BUILD not in host.use:
        refused = _by_free_space(wanted, host, found)
    if refused is not None or mode is None:
        return refused or _not_run(wanted.platform, host, found)
    builder = _builder(wanted, host, found)
    return builder if isinstance(builder, Rejection) else Choice(host.name, mode, builder, _reason(mode))


def _unreachable(platform: Platform, host: Host, found: Unreachable, emulate: Emulate) -> Rejection:
    """Reject the host by its last known facts where these rule out the platform, else because it is unreachable."""
    refused = found.known and _by_platform(platform, host, found.known, emulate)
    if refused:
        return replace(refused, reason=f"{refused.reason}, when it last answered")
    code = RejectionReason.UNUSABLE if found.alive else RejectionReason.UNREACHABLE
    return Rejection(host.name, code, found.message, found.hint)


def _blocked(host: Host, facts: Facts) -> Rejection | None:
    blocking = facts.blocking
    if blocking is None:
        return None
    code = RejectionReason.DUPLICATE if blocking.code == SAME_MACHINE else RejectionReason.BLOCKED
    return Rejection(host.name, code, blocking.message, blocking.hint)


def _by_platform(platform: Platform, host: Host, facts: Facts, emulate: Emulate) -> Rejection | None:
    """Return the rejection that repairing the host would not change.

    None where the host's platforms are unknown because its engine does not answer.
    """
    if not facts.platforms:
        return None
    mode = facts.mode(platform)
    if mode is None:
        return _not_run(platform, host, facts)
    return _by_emulation(platform, host, facts, emulate) if mode is Mode.EMULATED else None


def rejected_unprobed(platform: Platform, host: Host, emulate: Emulate, on: Sequence[str]) -> Rejection | None:
    """Return why the host is rejected whatever its facts are; None where it has to be probed."""
    if on and host.name not in on:
        return Rejection(host.name, RejectionReason.NOT_ASKED, f"--on names {', '.join(on)}")
    if host.state is HostState.DRAIN:
        hint = f"write state: active for {host.name} in the inventory"
        return Rejection(host.name, RejectionReason.DRAINED, "it is drained: it gets no new jobs", hint)
    if host.use and Use.BUILD not in host.use and host.name not in on:
        uses = ", ".join(host.use)
        return Rejection(
            host.name, RejectionReason.USE, f"use: [{uses}] leaves out build", f"use it anyway: --on {host.name}"
        )
    if emulate is Emulate.ONLY and host.kind is not Kind.EMULATOR:
        return Rejection(host.name, RejectionReason.NOT_EMULATOR, "--emulate only leaves out boards")
    if host.platforms and platform not in host.platforms:
        return Rejection(host.name, RejectionReason.PIN, f"the inventory limits it to {_list(host.platforms)}")
    return None


def _not_run(platform: Platform, host: Host, facts: Facts) -> Rejection:
    if platform.os != "linux":
        return Rejection(host.name, RejectionReason.PLATFORM, "it builds Linux images only", "leave the platform out")
    if platform in host.platforms:
        reason = f"the inventory says {platform}, and the probe found {_list(_direct(facts))}"
        return Rejection(
            host.name, RejectionReason.CONTRADICTED, reason, f"correct platforms: of {host.name} in the inventory"
        )
    if host.kind is Kind.EMULATOR:
        if akin := [known for known, _ in facts.platforms if known.architecture == platform.architecture]:
            # Another QEMU would not help: the variant is what is wrong.
            reason = f"of {platform.architecture} it runs {_list(akin)}"
            return Rejection(host.name, RejectionReason.PLATFORM, reason, f"name another variant: {_list(akin)}")
        reason = f"it is {facts.native}, and has no QEMU for {platform.architecture} that containers can use"
        return Rejection(host.name, RejectionReason.PLATFORM, reason, "sudo apt install qemu-user-static")
    return Rejection(host.name, RejectionReason.PLATFORM, f"it runs {_list(_direct(facts))}")


def _by_emulation(platform: Platform, host: Host, facts: Facts, emulate: Emulate) -> Rejection | None:
    if host.kind is Kind.BOARD:
        reason = f"it would have to emulate {platform}, and boards never emulate"
        shadowed = facts.problem(f"shadowed_{platform.architecture}")
        if platform in host.platforms and not shadowed:
            return _not_run(platform, host, facts)
        hint = shadowed.hint if shadowed else f"list {host.name} under emulators: to allow it"
        return Rejection(host.name, RejectionReason.BOARD, reason, hint)
    if emulate is Emulate.NEVER:
        return Rejection(
            host.name, RejectionReason.EMULATION, "it would have to emulate it", "leave out --emulate never to allow it"
        )
    if host.emulate and platform not in host.emulate:
        reason = f"the inventory lets it emulate {_list(host.emulate)} only"
        return Rejection(host.name, RejectionReason.EMULATE_LIST, reason, f"add {platform} to its emulate: list")
    return None


def _builder(wanted: JobRequirements, host: Host, facts: Facts) -> Builder | Rejection:
    old = _old_frontend(wanted, host, facts)
    if old is not None:
        return old
    builders = facts.engine.builders if facts.engine else ()
    able = [builder for builder in builders if host.engine in {"auto", builder}]
    if not able:
        reason = f"the inventory says engine: {host.engine}, and its engine can be driven by {_list(builders)} only"
        return Rejection(
            host.name, RejectionReason.ENGINE, reason, f"write engine: auto for {host.name} in the inventory"
        )
    for option in able:
        # The Engine API needs a BuildKit session to fetch a frontend image, and only a command line opens a session.
        if option is not Builder.API or (wanted.frontend is Frontend.BUILTIN and not wanted.copied_dockerfile):
            return option
    if wanted.frontend is not Frontend.BUILTIN:
        reason, cure = "cannot follow the Dockerfile's `# syntax` line", "remove the line"
    else:
        reason = f"adds archloom's Dockerfile to the files that are copied ({wanted.copied_dockerfile})"
        cure = "copy files and folders by name"
    return Rejection(
        host.name,
        RejectionReason.ENGINE,
        f"its engine is driven by the API, which {reason}",
        f"{cure}, or on that host: sudo apt install docker-buildx",
    )


def _old_frontend(wanted: JobRequirements, host: Host, facts: Facts) -> Rejection | None:
    known = facts.engine.version if facts.engine and facts.engine.kind == "docker" else ""
    if not wanted.newer_syntax or wanted.frontend is Frontend.IMAGE or not () < version(known) < FIRST_VERSION:
        return None
    reason = f"the BuildKit of its Docker {known} cannot read {wanted.newer_syntax}"
    return Rejection(host.name, RejectionReason.ENGINE, reason, SYNTAX_HINT)


def _by_free_space(wanted: JobRequirements, host: Host, facts: Facts) -> Rejection | None:
    hint = f"use it anyway: --on {host.name}, or write use: [build] in the inventory"
    if 0 < facts.memory < SMALL_MEMORY:
        reason = f"{facts.memory // 1024**2} MiB of memory, builds need 1 GiB"
        return Rejection(host.name, RejectionReason.MEMORY, reason, hint)
    reserved = host.min_free * facts.disk_total
    if facts.disk_total and facts.disk_free - wanted.space < reserved:
        needed = f" and {wanted.space / GIB:.1f} GiB for this build" if wanted.space >= _LEAST_SHOWN_BYTES else ""
        if reserved > (least := _SMALL_MIN_FREE * facts.disk_total) and facts.disk_free - wanted.space >= least:
            hint += f"; or write min_free: {_SMALL_MIN_FREE:.0%} for {host.name} there"
        reason = f"{facts.disk_free / GIB:.1f} GiB of disk free, {reserved / GIB:.1f} GiB stay free by min_free{needed}"
        return Rejection(host.name, RejectionReason.DISK, reason, f"on that host: docker system prune; or {hint}")
    return None


def _reason(mode: Mode) -> str:
    match mode:
        case Mode.NATIVE:
            return "its own platform"
        case Mode.COMPAT:
            return "its CPU runs it directly"
        case Mode.CROSS:
            return "the Dockerfile cross-compiles"
        case Mode.EMULATED:
            return "through QEMU"
        case _:
            assert_never(mode)


def _direct(facts: Facts) -> tuple[Platform, ...]:
    return facts.in_mode(Mode.NATIVE) + facts.in_mode(Mode.COMPAT)


def _list(words: Sequence[object]) -> str:
    return ", ".join(map(str, words)) or "nothing"
