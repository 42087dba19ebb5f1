"""Farms for the tests of decisions: hosts of every kind, and what a probe of each finds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from coordinator.domain.hosts.facts import Facts, read_facts
from coordinator.domain.hosts.inventory import Address, Host, HostState, Kind, Use
from coordinator.domain.image.platforms import parse
from coordinator.domain.placement.eligibility import Unreachable
from tests.services.paths import CASES

OBSERVATIONS = sorted(path.stem for path in (CASES / "observations").glob("*.json") if not path.stem.endswith(".facts"))
PLATFORMS = [
    parse(text) for text in ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/riscv64")
]
ARM64, ARMV7 = PLATFORMS[1], PLATFORMS[2]
WANTED = st.lists(st.sampled_from(PLATFORMS), min_size=1, max_size=4, unique=True)


def observation(name: str) -> dict[str, Any]:
    return json.loads((CASES / "observations" / f"{name}.json").read_text("utf-8"))


def found(name: str, seen: str) -> Facts:
    return read_facts(name, observation(seen), now=1763930000.2, round_trip=0.4)


def host(name: str, kind: Kind = Kind.BOARD, **more: Any) -> Host:
    return Host(name=name, kind=kind, address=Address(host=f"{name}.lan"), **more)


@st.composite
def farms(draw):
    """Hosts of every kind, with what a probe of each found."""
    hosts, seen = [], {}
    for number in range(draw(st.integers(0, 5))):
        name = f"host{number}"
        hosts.append(
            host(
                name,
                draw(st.sampled_from(Kind)),
                state=draw(st.sampled_from(HostState)),
                use=draw(st.sampled_from([(), (Use.BUILD,), (Use.RUN,)])),
                platforms=draw(st.sampled_from([(), (), (ARM64,), tuple(PLATFORMS)])),
                emulate=draw(st.sampled_from([(), (), (ARMV7,)])),
                engine=draw(st.sampled_from(["auto", "auto", "buildx", "docker", "api"])),
                min_free=draw(st.sampled_from([0.0, 0.1, 0.9])),
            )
        )
        there = draw(st.sampled_from([*OBSERVATIONS, None]))
        seen[name] = found(name, there) if there else Unreachable("it is off", "switch it on")
    return hosts, seen
