"""A secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import pickle

import pytest

from coordinator.domain.secrets import Credential, Secret

SECRET = Secret("hunter2")


def test_a_secret_is_not_displayed():
    """In no format, also as a field of something else."""
    shown = [str(SECRET), repr(SECRET), f"{SECRET}", f"{SECRET:>20}", "%s" % SECRET, repr(Credential(password=SECRET))]  # noqa: UP031

    assert not [text for text in shown if "hunter2" in text]
    assert all("[REDACTED]" in text for text in shown)
    assert SECRET.reveal() == "hunter2"


@pytest.mark.parametrize("take_away", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_secret_is_not_copied_or_stored(take_away):
    with pytest.raises(TypeError):
        take_away(SECRET)


def test_secrets_with_equal_texts_are_equal():
    """And a secret is never equal to its text."""
    assert Secret("hunter2") == SECRET
    assert hash(Secret("hunter2")) == hash(SECRET)
    assert Secret("hunter3") != SECRET
    assert SECRET != "hunter2"
    assert len({SECRET, Secret("hunter2"), Secret("")}) == 2
    assert SECRET
    assert not Secret("")
