"""Trials of `scripts/chaos`: ten that are always the same, and those that once failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.__main__ import judged, told
from tests.chaos.lab import ChaosLab, chaos_lab
from tests.chaos.leftovers import sweep_emulator
from tests.chaos.plan import plan
from tests.chaos.trial import trial

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.slow, pytest.mark.usefixtures("emulation")]

SEEDS = tuple(range(10))


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosLab]:
    with chaos_lab(tmp_path_factory.mktemp("chaos")) as running:
        yield running


@pytest.mark.parametrize("seed", SEEDS)
def test_what_has_to_hold_holds(chaos: ChaosLab, tmp_path: Path, seed: int):
    """Whatever breaks: the tag is old or right, words are true, the run is finished, and nothing is left."""
    try:
        with trial(chaos, plan(seed), tmp_path / "trial") as done:
            found = judged(done)
            sweep_emulator(done)
            assert not found, "\n".join([str(done.plan), told(done), *found])
            faulty = [str(one) for one in done.struck if one.error]
            assert not faulty, f"the faults themselves: {faulty}"
    finally:
        chaos.restore()
