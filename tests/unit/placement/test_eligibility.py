"""Whether a host may build a platform, and the code of the reason why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.hosts.inventory import Kind
from coordinator.domain.hosts.problems import SMALL_MEMORY
from coordinator.domain.image.platforms import parse
from coordinator.domain.placement.eligibility import Frontend, JobRequirements, RejectionReason, Unreachable
from coordinator.domain.placement.plan import plan
from tests.unit.placement.farms import ARM64, ARMV7, found, host


@pytest.mark.parametrize("kind", Kind)
def test_no_host_builds_for_another_system_than_linux(kind):
    """Nor is it worth an emulator: the hint says to leave the platform out."""
    wanted = JobRequirements(platform=parse("windows/amd64"))
    seen = {"beast": found("beast", "amd64-qemu-user-static")}

    (rejection,) = plan([wanted], [host("beast", kind)], seen).placements[0].rejections

    assert rejection.why is RejectionReason.PLATFORM
    assert "platform" in rejection.hint


@pytest.mark.parametrize(
    ("wanted", "reason", "hint"),
    [
        ("linux/arm64/v9", "of arm64 it runs linux/arm64", "name another variant: linux/arm64"),
        ("linux/loong64", "it is linux/amd64, and has no QEMU for loong64", "sudo apt install qemu-user-static"),
    ],
)
def test_a_variant_that_no_emulator_has_is_no_missing_emulator(wanted, reason, hint):
    """To install QEMU again would not help."""
    seen = {"beast": found("beast", "amd64-qemu-user-static")}
    beast = host("beast", Kind.EMULATOR)

    (rejection,) = plan([JobRequirements(platform=parse(wanted))], [beast], seen).placements[0].rejections

    assert rejection.reason.startswith(reason)
    assert rejection.hint == hint


@pytest.mark.parametrize(("alive", "why"), [(True, RejectionReason.UNUSABLE), (False, RejectionReason.UNREACHABLE)])
def test_a_host_whose_address_answers_is_not_off(alive, why):
    (rejection,) = (
        plan([JobRequirements(platform=ARM64)], [host("pi")], {"pi": Unreachable("no", "do", alive=alive)})
        .placements[0]
        .rejections
    )

    assert (rejection.why, rejection.reason, rejection.hint, rejection.passes) == (why, "no", "do", True)


@pytest.mark.parametrize(
    ("seen", "platforms", "why"),
    [
        ("amd64-qemu-user-static", (), RejectionReason.BOARD),
        ("amd64-qemu-user-static", (ARM64,), RejectionReason.CONTRADICTED),
        ("arm64-qemu-arm-registered", (), RejectionReason.BOARD),
        ("arm64-qemu-arm-registered", (ARMV7,), RejectionReason.BOARD),
    ],
)
def test_a_board_never_emulates(seen, platforms, why):
    """Where the inventory says that it runs the platform, it is wrong, unless QEMU hides what the CPU could do."""
    wanted = ARM64 if seen.startswith("amd64") else ARMV7
    entry = host("board", platforms=platforms)

    (rejection,) = (
        plan([JobRequirements(platform=wanted)], [entry], {"board": found("board", seen)}).placements[0].rejections
    )

    assert rejection.why is why
    assert rejection.hint


@pytest.mark.parametrize(
    ("engine", "frontend", "reads"),
    [
        ("20.10.24+dfsg1", Frontend.BUILTIN, False),
        ("20.10.24+dfsg1", Frontend.IMAGE, True),
        ("23.0.1", Frontend.BUILTIN, True),
        ("28.5.2+dfsg1", Frontend.BUILTIN, True),
        ("of their own", Frontend.BUILTIN, True),
    ],
)
def test_an_engine_that_cannot_read_the_dockerfile_is_no_place_to_build(engine, frontend, reads):
    """Before a build is tried there, with the line that cures it; an engine of an unknown version is tried."""
    facts = found("pi", "pi4")
    seen = {"pi": replace(facts, engine=replace(facts.engine, version=engine))}
    wanted = JobRequirements(platform=ARM64, frontend=frontend, newer_syntax="the heredoc in line 3")

    [placement] = plan([wanted], [host("pi")], seen).placements

    assert bool(placement.choices) is reads
    if not reads:
        [rejection] = placement.rejections
        assert rejection.reason == f"the BuildKit of its Docker {engine} cannot read the heredoc in line 3"
        assert rejection.hint == "begin the Dockerfile with the line: # syntax=docker/dockerfile:1"


@pytest.mark.parametrize(
    ("facts", "space", "why"),
    [
        ({"memory": SMALL_MEMORY - 1}, 0, RejectionReason.MEMORY),
        ({"memory": SMALL_MEMORY}, 0, None),
        ({"memory": 1}, 0, RejectionReason.MEMORY),
        ({"memory": 0}, 0, None),
        ({"disk_total": 100, "disk_free": 10}, 0, None),
        ({"disk_total": 100, "disk_free": 9}, 0, RejectionReason.DISK),
        ({"disk_total": 100, "disk_free": 30}, 20, None),
        ({"disk_total": 100, "disk_free": 30}, 21, RejectionReason.DISK),
        ({"disk_total": 0, "disk_free": 0}, 0, None),
    ],
)
def test_little_memory_and_little_disk_are_no_place_to_build(facts, space, why):
    """Up to the limit, and what is unknown (0) is enough; naming the host overrides it."""
    hosts, seen = [host("pi", min_free=0.1)], {"pi": replace(found("pi", "pi4"), **facts)}
    wanted = [JobRequirements(platform=ARM64, space=space)]

    assert [one.why for one in plan(wanted, hosts, seen).placements[0].rejections] == ([why] if why else [])
    assert plan(wanted, hosts, seen, on=("pi",)).no_host_error() is None
