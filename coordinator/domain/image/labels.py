"""The labels that archloom sets on every image it builds: its build id and the mode of its job."""

from __future__ import annotations

from coordinator.domain.image.platforms import Mode

BUILD_ID = "archloom.build-id"
MODE = "archloom.mode"


def own_labels(build_id: str, mode: Mode) -> dict[str, str]:
    return {BUILD_ID: build_id, MODE: mode.value}
