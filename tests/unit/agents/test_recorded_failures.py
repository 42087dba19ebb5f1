"""Whose fault the recorded failures of real engines are. How they were recorded: `tests/recorders/failures.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.base.disk import Room
from agents.engine.failure_cause import classify_failure
from agents.engine.monitor import Evidence
from tests.services.paths import CASES

RECORDED = sorted((CASES / "failures").glob("*/*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_failure_is_judged(path: Path):
    """By what the engine said, the end of the log and what the host looked like."""
    recorded = json.loads(path.read_text("utf-8"))
    seen = recorded["evidence"]
    evidence = Evidence(**{**seen, "least": Room(**seen["least"])})

    fault = classify_failure(recorded["said"], recorded["log"], evidence, foreign=recorded["foreign"])

    assert [fault.state, fault.code] == recorded["verdict"], fault.message


def test_every_generation_of_engines_is_recorded():
    """With each client that the agent builds by."""
    assert {path.parent.name for path in RECORDED} == {
        "20.10-docker",
        "20.10-api",
        "26.1-buildx",
        "28.5-buildx",
        "28.5-api",
    }
