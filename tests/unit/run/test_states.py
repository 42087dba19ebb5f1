"""The tables of states: exactly the transitions that the documentation draws, and every other pair is refused."""

from __future__ import annotations

import re
from itertools import product

import pytest

from coordinator.domain.run import states
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobEvent, JobState, TargetEvent, TargetState
from tests.services.paths import ROOT

PAGE = (ROOT / "docs" / "states.md").read_text("utf-8")
TABLES = {
    "Attempt": (states.ATTEMPT, AttemptState, AttemptEvent),
    "Job": (states.JOB, JobState, JobEvent),
    "Target": (states.TARGET, TargetState, TargetEvent),
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("title", TABLES)
def test_the_documentation_draws_the_table(title):
    """Each arrow of the diagram is a transition, and each transition an arrow; terminal states lead to the end."""
    table, kind, _ = TABLES[title]
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", section(title), re.MULTILINE))
    ends = set(re.findall(r"^    (\w+) --> \[\*\]$", section(title), re.MULTILINE))

    assert drawn == {(state, after, event) for state, row in table.items() for event, after in row.items()}
    assert ends == {state for state in kind if states.ended(state)}


@pytest.mark.parametrize("title", TABLES)
def test_what_the_table_does_not_list_is_refused(title):
    """Also a state without a row of its own, such as one of a newer version."""
    table, kind, events = TABLES[title]
    for state, event in product(kind, events):
        if event in table[state]:
            assert states.after(table, state, event) is table[state][event]
        else:
            with pytest.raises(states.ForbiddenTransitionError):
                states.after(table, state, event)
