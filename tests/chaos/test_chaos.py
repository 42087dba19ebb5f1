"""Trials of `scripts/chaos`: ten that are always the same, and those that once failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.__main__ import judged, told
from tests.chaos.lab import ChaosLab, chaos_lab
from tests.chaos.leftovers import sweep_emulator
from tests.chaos.plan import Plan, plan
from tests.chaos.trial import trial

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.slow, pytest.mark.usefixtures("emulation")]

# One or two of each family of faults, and none that takes long.
SEEDS = (29, 46, 62, 66, 75, 94, 96, 107, 111, 112)
# What once failed, with the kind that was asked for, where one was.
FAILED = (
    (1, "off"),
    (1, "lie-nothing"),
    (2, "registry-tag-lost"),
    (5, "engine-disk-full"),
    (5, "engine-inodes"),
    (7, ""),
    (8, ""),
    (120, ""),
)


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosLab]:
    with chaos_lab(tmp_path_factory.mktemp("chaos")) as running:
        yield running


@pytest.mark.parametrize("seed", SEEDS)
def test_what_has_to_hold_holds(chaos: ChaosLab, tmp_path: Path, seed: int):
    """Whatever breaks: the tag is old or right, words are true, the run is finished, and nothing is left."""
    hold(chaos, plan(seed), tmp_path)


@pytest.mark.parametrize(("seed", "kind"), FAILED)
def test_what_once_failed_holds(chaos: ChaosLab, tmp_path: Path, seed: int, kind: str):
    """The same trials as when they failed."""
    hold(chaos, plan(seed, only=[kind] if kind else []), tmp_path)


def hold(chaos: ChaosLab, made: Plan, folder: Path) -> None:
    try:
        with trial(chaos, made, folder / "trial") as done:
            found = judged(done)
            sweep_emulator(done)
            assert not found, "\n".join([str(made), told(done), *found])
            faulty = [str(one) for one in done.struck if one.error]
            assert not faulty, f"the faults themselves: {faulty}"
    finally:
        chaos.restore()
