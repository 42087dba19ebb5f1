"""What is committed of a run is a line of text in the store, and comes back as what it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import parse
from coordinator.domain.run.history import AttemptChange, JobChange, RunChange, RunEnded, TagMoved, TargetChange, read
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, TargetEvent, TargetState

PLATFORMS = st.sampled_from(["linux/amd64", "linux/arm/v7", "linux/arm64", "windows/amd64"]).map(parse)
ARM64 = parse("linux/arm64")
STEPS = st.one_of(
    st.sampled_from(RunChange),
    st.builds(RunEnded, st.integers(0, 255)),
    st.builds(TagMoved, st.sampled_from(["nas.lan:5000/app:1", "ann/tool:latest"])),
    st.builds(TargetChange, *map(st.sampled_from, (TargetState, TargetEvent, TargetState))),
    st.builds(JobChange, PLATFORMS, *map(st.sampled_from, (JobState, JobEvent, [*JobState, None]))),
    st.builds(
        AttemptChange,
        PLATFORMS,
        st.integers(1, 99),
        *map(st.sampled_from, (AttemptState, AttemptEvent, [*AttemptState, None])),
    ),
)


@given(STEPS)
def test_a_step_is_read_as_it_was_written(step):
    """Every kind, and those that were dropped."""
    assert read(str(step)) == step


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("run taken over", RunChange.TAKEN_OVER),
        ("run ended 4", RunEnded(4)),
        ("tag nas.lan:5000/app:1 moved", TagMoved("nas.lan:5000/app:1")),
        ("target open give_up incomplete", TargetChange(TargetState.OPEN, TargetEvent.GIVE_UP, TargetState.INCOMPLETE)),
        ("job linux/arm64 pending assign active", JobChange(ARM64, JobState.PENDING, JobEvent.ASSIGN, JobState.ACTIVE)),
        (
            "attempt linux/arm64 2 lost dropped built",
            AttemptChange(ARM64, 2, AttemptState.LOST, AttemptEvent.BUILT, None),
        ),
    ],
)
def test_the_texts_that_are_in_stores(text, step):
    """They are a format on disk: a store keeps them for as long as its runs."""
    assert read(text) == step
    assert str(step) == text


@pytest.mark.parametrize(
    "text",
    ["", "run", "run ended well", "job linux/arm64", "job linux/arm64 pending fly active", "job ? a b c", "tag moved"],
)
def test_what_another_version_wrote_is_none_of_ours(text):
    """It is passed over, not stumbled over."""
    assert read(text) is None
