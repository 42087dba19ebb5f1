"""Platforms are normalised by containerd's rules, and a person's slips are answered with what was meant."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.domain.image.platforms import Platform, normalise, parse, parse_list
from coordinator.errors import UsageError

KNOWN = st.sampled_from(
    [
        "linux/amd64", "linux/amd64/v3", "linux/arm64", "linux/arm64/v9", "linux/arm/v5", "linux/arm/v6",
        "linux/arm/v7", "linux/386", "linux/riscv64", "linux/ppc64le", "linux/s390x", "windows/amd64",
    ]
)  # fmt: skip
WORD = st.text("abmxrv0123456789._-", max_size=8)


@pytest.mark.parametrize(
    ("architecture", "variant", "expected"),
    [
        ("aarch64", "", "arm64"),
        ("arm64", "8", "arm64"),
        ("arm64", "v8", "arm64"),
        ("arm64", "v8.0", "arm64"),
        ("arm64", "9", "arm64/v9"),
        ("arm64", "9.0", "arm64/v9"),
        ("arm64", "v9.0", "arm64/v9"),
        ("ARM64", "V8", "arm64"),
        ("armhf", "", "arm/v7"),
        ("armhf", "v6", "arm/v7"),
        ("armel", "", "arm/v6"),
        ("arm", "", "arm/v7"),
        ("arm", "7", "arm/v7"),
        ("arm", "5", "arm/v5"),
        ("arm", "6", "arm/v6"),
        ("arm", "8", "arm/v8"),
        ("x86_64", "", "amd64"),
        ("x86-64", "", "amd64"),
        ("amd64", "v1", "amd64"),
        ("amd64", "v3", "amd64/v3"),
        ("i386", "", "386"),
        ("i386", "v1", "386"),
        ("riscv64", "", "riscv64"),
        ("arm64", "v9.0.0", "arm64/v9"),
        ("mips64le", "softfloat", "mips64le/softfloat"),
    ],
)
def test_normalisation_follows_containerd(architecture, variant, expected):
    """Each spelling containerd knows means the platform containerd says."""
    assert str(normalise("linux", architecture, variant)) == f"linux/{expected}"


def test_macos_is_darwin():
    """containerd's name for macOS is darwin."""
    assert normalise("macOS", "arm64") == Platform("darwin", "arm64")


def test_what_nobody_knows_is_kept():
    """A manifest may say anything: unknown words survive, in lower case."""
    assert normalise("Unknown", "Unknown") == Platform("unknown", "unknown")
    assert normalise("", "") == Platform("", "")


@given(WORD, WORD, WORD)
@example("linux", "arm64", "9.0.0")
def test_normalising_twice_changes_nothing(system, architecture, variant):
    """Normalisation is idempotent, so that equal platforms are equal values."""
    once = normalise(system, architecture, variant)
    assert normalise(once.os, once.architecture, once.variant) == once


@given(KNOWN)
def test_a_platform_reads_back(text):
    """What is printed is what is parsed."""
    assert str(parse(text)) == text


def test_images_are_built_for_what_go_runs_on():
    """Its names for systems and architectures (https://go.dev/doc/install/source#environment), as images use them."""
    architectures = "amd64 arm64 386 riscv64 ppc64le s390x mips64le mips64 mipsle mips loong64"
    systems = (
        "linux windows darwin freebsd netbsd openbsd dragonfly solaris illumos aix android ios plan9 js wasip1 zos"
    )
    texts = [f"{system}/{architecture}" for system in systems.split() for architecture in architectures.split()]

    assert [str(parse(text)) for text in texts] == texts
    assert [str(parse(f"linux/amd64/v{level}")) for level in (1, 2, 3, 4)] == [
        "linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/ARM64", "linux/arm64"),
        (" linux/amd64 ", "linux/amd64"),
        ("linux/arm/v8", "linux/arm/v8"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/riscv64/rva22u64", "linux/riscv64/rva22u64"),
    ],
)
def test_people_write_platforms_loosely(text, expected):
    """Case, aliases, defaults and a missing `v` do not matter."""
    assert str(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("arm64v8", "linux/arm64"),
        ("linux/arm64v8", "linux/arm64"),
        ("arm32v7", "linux/arm/v7"),
        ("armv7l", "linux/arm/v7"),
        ("linux/armv6", "linux/arm/v6"),
        ("arm64", "linux/arm64"),
        ("arm", "linux/arm/v7"),
        ("arm/v7", "linux/arm/v7"),
        ("arm64/v8", "linux/arm64"),
        ("amd64", "linux/amd64"),
        ("linux/amd46", "linux/amd64"),
        ("linux/armm64", "linux/arm64"),
        ("x86_64", "linux/amd64"),
        ("x64", "linux/amd64"),
        ("i686", "linux/386"),
        ("risc64", "linux/riscv64"),
        ("ppc64el", "linux/ppc64le"),
        ("arm32v5", "linux/arm/v5"),
        ("arm32v6", "linux/arm/v6"),
        ("armv5", "linux/arm/v5"),
        ("armv6l", "linux/arm/v6"),
        ("armv7", "linux/arm/v7"),
        ("armv8", "linux/arm64"),
        ("x86", "linux/386"),
        ("aarch64", "linux/arm64"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("arm/v5x", "linux/arm/v5"),
        ("arm/v6x", "linux/arm/v6"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(text, suggestion):
    """Words from Debian, Docker's image prefixes, uname and typing errors have a suggestion."""
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert refused.value.message == f"unknown platform '{text}'"
    assert refused.value.hint == f"did you mean {suggestion}?"


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "linux", "linux/", "/arm64", "*/*", "all", "linux/foo", "unknown/unknown", "linux/arm64/",
        "amd64/amd64", "linux/arm/v7/x", "linux//arm64", "linux/ arm64", "linus/amd64", "linux/arm64\nv8",
        "línux/arm64",
    ],
)  # fmt: skip
def test_what_is_no_platform_is_refused(text):
    """Anything that is not os/arch[/variant] of something images are built for is refused."""
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert refused.value.code == "platform"
    assert refused.value.hint


@pytest.mark.parametrize("text", ["linux/arm/v77", "linux/arm/hard", "linux/amd64/v9", "linux/arm64/v7"])
def test_a_variant_nobody_has_is_refused(text):
    """Numbered variants are checked, and the hint lists them."""
    with pytest.raises(UsageError, match="unknown platform") as refused:
        parse(text)
    assert refused.value.hint.startswith("use a variant of ")


def test_a_list_holds_each_platform_once_in_the_order_given():
    """Repeated flags and commas are one list; two spellings are one platform."""
    listed = parse_list(("linux/arm64,linux/amd64", "linux/arm64/v8", " linux/arm/v7, "))
    assert [str(one) for one in listed] == ["linux/arm64", "linux/amd64", "linux/arm/v7"]
    assert parse_list(()) == ()


def test_a_slug_fits_into_a_tag():
    """linux is left out; the variant follows the architecture."""
    slugs = [parse(text).slug for text in ("linux/arm64", "linux/arm/v7", "linux/amd64/v3", "windows/amd64")]
    assert slugs == ["arm64", "armv7", "amd64v3", "windows-amd64"]


def test_the_best_match_leads():
    """The order of an index: usual architectures first, and the higher variant before the lower."""
    texts = [
        "linux/loong64",
        "linux/arm/v6",
        "linux/s390x",
        "linux/arm64",
        "linux/amd64",
        "linux/arm/v7",
        "linux/amd64/v3",
        "linux/386",
    ]
    ordered = sorted(map(parse, texts), key=lambda one: one.sort_key)
    assert list(map(str, ordered)) == [
        "linux/amd64/v3", "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/s390x",
        "linux/loong64",
    ]  # fmt: skip


@given(st.lists(st.builds(normalise, WORD, WORD, WORD)))
def test_the_order_is_total(platforms):
    """Platforms that differ never tie, so that the same children give the same bytes."""
    assert len({one.sort_key for one in platforms}) == len(set(platforms))
