"""The names of pins: the whole proof of what a child is, within what a registry allows as a tag."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import Mode, Platform, parse
from coordinator.domain.inputs.pins import attestation_pin, is_pin, own_pin, pin_tag, shown_pin

ID = "0123456789abcdef" * 4
DIGEST = "sha256:" + "fedcba9876543210" * 4
IDS = st.text("0123456789abcdef", min_size=64, max_size=64)
DIGESTS = IDS.map("sha256:{}".format)
WORDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,50}", fullmatch=True)
PLATFORMS = st.builds(Platform, WORDS, WORDS, st.one_of(st.just(""), WORDS))
# distribution-spec, "Pulling manifests".
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")


@pytest.mark.parametrize(
    ("platform", "mode", "pin"),
    [
        ("linux/arm64", Mode.NATIVE, f"archloom-{ID}-arm64-n"),
        ("linux/arm/v7", Mode.COMPAT, f"archloom-{ID}-armv7-c"),
        ("linux/amd64/v3", Mode.CROSS, f"archloom-{ID}-amd64v3-x"),
        ("windows/amd64", Mode.EMULATED, f"archloom-{ID}-windows-amd64-e"),
    ],
)
def test_names_are_what_they_were(platform: str, mode: Mode, pin: str):
    """They are kept in registries: a later version must look for the same."""
    assert pin_tag(ID, parse(platform), mode) == pin
    assert own_pin(pin, DIGEST) == f"{pin}-fedcba987654"
    assert attestation_pin(pin, DIGEST) == f"{pin}-afedcba987654"


@given(IDS, PLATFORMS, st.sampled_from(Mode), DIGESTS)
def test_every_name_is_a_tag_and_known_as_a_pin(build_id: str, platform: Platform, mode: Mode, digest: str):
    """Whatever the platform: 128 characters at most."""
    pin = pin_tag(build_id, platform, mode)
    beside = own_pin(pin, digest)
    for name in (pin, beside, attestation_pin(pin, digest), attestation_pin(beside, digest)):
        assert TAG.match(name)
        assert is_pin(name)


@given(st.tuples(IDS, st.sampled_from(Mode)), st.tuples(IDS, st.sampled_from(Mode)))
def test_another_build_or_mode_has_another_name(one: tuple[str, Mode], other: tuple[str, Mode]):
    """A build id covers the platform."""
    names = [pin_tag(build_id, parse("linux/arm64"), mode) for build_id, mode in (one, other)]

    assert (names[0] == names[1]) == (one == other)


@given(IDS, st.sampled_from(Mode), DIGESTS, DIGESTS)
def test_a_pin_with_a_digest_is_never_one_without(build_id: str, mode: Mode, digest: str, other: str):
    """Nor is an attestation's ever a child's: each name has one meaning."""
    pin = pin_tag(build_id, parse("linux/arm64"), mode)

    assert len({pin, own_pin(pin, digest), attestation_pin(pin, digest), attestation_pin(pin, other)}) >= 3


@pytest.mark.parametrize("tag", ["archloom-0123456789abcdef-armv6", "archloom-0123456789abcdef-windows-amd64"])
def test_pins_of_older_versions_are_known_and_never_asked_for(tag: str):
    """Sixteen digits, no mode."""
    assert is_pin(tag)
    assert tag not in {pin_tag(ID, parse(platform), mode) for platform in ("linux/arm/v6",) for mode in Mode}


@pytest.mark.parametrize("tag", ["", "1.0", "archloom", "archloom-1.0", f"archloom-{ID}", f"x-archloom-{ID}-arm64-n"])
def test_a_users_tag_is_no_pin(tag: str):
    """Only the whole form counts."""
    assert not is_pin(tag)


def test_people_see_a_short_one():
    """A line of a report has to hold it."""
    assert shown_pin(f"archloom-{ID}-arm64-n") == "pin archloom-0123456789ab…-arm64-n"
    assert shown_pin("archloom-1") == "pin archloom-1"
    assert shown_pin("") == "no tag"
