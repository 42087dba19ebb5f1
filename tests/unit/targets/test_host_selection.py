"""`--on`, read as it is meant and written down so that it is read the same again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.targets.host_selection import HostSelection, read_on
from coordinator.errors import UsageError
from tests.unit.placement.farms import ARM64, ARMV7, PLATFORMS


def test_hosts_and_platforms_may_be_mixed_repeated_and_joined():
    """A platform given to a host leaves the others to the hosts named for any."""
    on, pinned = read_on(["pi5, pi4", "linux/arm64/v8=pi5", "pi4"])
    selection = HostSelection(on=on, pinned=pinned)

    assert (on, pinned) == (("pi5", "pi4"), {ARM64: "pi5"})
    assert selection.on_for(ARM64) == ("pi5",)
    assert selection.on_for(ARMV7) == ("pi5", "pi4")
    assert selection.names == ("pi5", "pi4")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([""], "'' in --on names no host"),
        (["pi5,,pi4"], "'pi5,,pi4' in --on names no host"),
        (["linux/arm64="], "in --on names no host"),
        (["=pi5"], "in --on names no host"),
        (["arm64=pi5"], "unknown platform 'arm64'"),
        (["linux/arm64=pi5", "linux/arm64/v8=pi4"], "--on gives linux/arm64 to pi5 and to pi4"),
        (["linux/arm64=pi5,linux/arm64=pi5"], "--on gives linux/arm64 to pi5 and to pi5"),
    ],
)
def test_what_names_no_host_is_refused(words, said):
    """Never guessed at: a host too many builds where the user does not want it."""
    with pytest.raises(UsageError) as caught:
        read_on(words)

    assert said in caught.value.message
    assert caught.value.hint


def test_a_host_for_a_platform_that_is_not_built_is_refused():
    """It is a slip in one of the two flags."""
    with pytest.raises(UsageError, match=r"linux/arm64=pi5: linux/arm64 is not built in this run") as caught:
        HostSelection(pinned={ARM64: "pi5"}).check_platforms([ARMV7])

    assert caught.value.hint == "choose from linux/arm/v7, or change --platform"


NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True)


@given(st.lists(NAMES, unique=True), st.dictionaries(st.sampled_from(PLATFORMS), NAMES))
def test_what_is_kept_of_it_is_read_the_same(on, pinned):
    """The store has the words, and a run that is taken up again has the same hosts."""
    selection = HostSelection(on=tuple(on), pinned=pinned)

    assert read_on(selection.words) == (selection.on, selection.pinned)
