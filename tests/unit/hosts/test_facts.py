"""What an observation means: real hosts as golden files, and rules that hold for any observation."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.hosts.facts import Builder, Facts, read_facts
from coordinator.domain.hosts.problems import Severity, version
from coordinator.domain.image.platforms import Mode, parse
from tests.services.paths import CASES

GOLDEN = CASES / "observations"
NAMES = sorted(path.name.removesuffix(".facts.json") for path in GOLDEN.glob("*.facts.json"))
# The moment the cases were looked at; the look took 0.4 s.
THEN = 1763930000.2


def observation(name: str) -> dict[str, object]:
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


def facts(name: str) -> Facts:
    return read(observation(name))


def read(seen: Mapping[str, object]) -> Facts:
    return read_facts("host", seen, now=THEN, round_trip=0.4)


def codes(found: Facts) -> dict[str, Severity]:
    return {problem.code: problem.severity for problem in found.problems}


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_host_is_understood(name):
    """The facts beside an observation are exactly what is read from it."""
    expected = json.loads((GOLDEN / f"{name}.facts.json").read_text("utf-8"))

    assert facts(name).to_json() == expected


def test_every_observation_has_its_facts():
    """No case is left without an answer."""
    assert {path.stem for path in GOLDEN.glob("*.json") if not path.stem.endswith(".facts")} == set(NAMES)


def test_a_rootless_engine_builds_and_does_not_push():
    """It has a loopback of its own: nothing is in the way of a job, and its image leaves as an archive."""
    assert facts("rootless").blocking is None
    assert not facts("rootless").reaches_tunnel
    assert facts("pi4").reaches_tunnel


@pytest.mark.parametrize(
    ("version", "able"), [("20.10.24+dfsg1", False), ("23.0.0", True), ("27.5.1", True), ("", False)]
)
def test_zstd_needs_a_newer_engine(version, able):
    """Docker 23.0 is the first that unpacks it."""
    seen = observation("pi4")
    seen["engine"]["version"] = version

    assert read(seen).loads_zstd is able


def test_a_32_bit_engine_on_a_64_bit_kernel_is_a_32_bit_host():
    """The engine decides what is native: such a Pi 4 never builds linux/arm64, though its kernel runs it."""
    found = facts("pi4-64bit-kernel-32bit-userland")

    assert found.native == parse("linux/arm/v7")
    assert found.mode(parse("linux/arm64")) is None


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("pi4", Mode.COMPAT),
        ("pi5-16k", None),
        ("arm64-server-without-aarch32", None),
        ("arm64-qemu-arm-registered", Mode.EMULATED),
        ("amd64-qemu-user-static", Mode.EMULATED),
        ("amd64-binfmt-without-F", None),
        ("amd64-without-binfmt", None),
    ],
)
def test_32_bit_arm_is_told_apart_by_how_it_runs(name, arm):
    """A probe that runs is compat only where the CPU runs it, and emulated only where containers find the emulator."""
    assert facts(name).mode(parse("linux/arm/v7")) is arm


@given(st.sampled_from(NAMES), st.sampled_from(["amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x"]))
def test_a_registered_emulator_is_never_called_native(name, architecture):
    """Whatever else is found, an architecture with an emulator in front of it is emulated or not there at all."""
    seen = observation(name)
    seen["binfmt"] = {
        "mounted": True,
        "enabled": True,
        "entries": [{"name": "qemu", "enabled": True, "flags": "F", "magic_arch": architecture}],
    }

    found = read(seen)

    assert {mode for platform, mode in found.platforms if platform.architecture == architecture} <= {Mode.EMULATED}


def test_an_emulator_that_does_not_run_its_program_is_a_problem_and_no_platform():
    """A register entry that outlived its interpreter promises nothing."""
    seen = observation("amd64-qemu-user-static")
    seen["runs"] = {**seen["runs"], "arm": False}

    found = read(seen)

    assert found.mode(parse("linux/arm/v7")) is None
    assert found.mode(parse("linux/arm64")) is Mode.EMULATED
    assert codes(found)["emulator_broken"] is Severity.WARNING


def test_emulation_that_cannot_be_seen_is_not_counted():
    """Foreign programs run, but where binfmt_misc is not mounted nobody knows whether containers' would."""
    seen = observation("amd64-qemu-user-static")
    seen["binfmt"] = {"mounted": False, "enabled": False, "entries": []}

    found = read(seen)

    assert found.in_mode(Mode.EMULATED) == ()
    assert "binfmt_unseen" in codes(found)


@pytest.mark.parametrize(
    ("model", "architecture", "machine", "native"),
    [
        ("ARMv6-compatible processor rev 7 (v6l)", "7", "armv6l", "linux/arm/v6"),
        ("Feroceon 88FR131 rev 1 (v5l)", "5TE", "armv5tel", "linux/arm/v5"),
        ("", "8", "aarch64", "linux/arm/v7"),
        ("", "AArch64", "aarch64", "linux/arm/v7"),
        ("", "", "armv6l", "linux/arm/v6"),
        ("", "", "", "linux/arm/v7"),
    ],
)
def test_the_arm_version_is_containerds(model, architecture, machine, native):
    """The first Pis say 7 of a CPU that is a 6; an 8 in 32-bit mode is a 7."""
    seen = observation("pi2")
    seen["cpuinfo"] = {"model": model, "architecture": architecture}
    seen["uname"] = {"machine": machine}

    assert read(seen).native == parse(native)


@pytest.mark.parametrize(
    ("offset", "severity"),
    [(0.0, None), (59, None), (-61, Severity.WARNING), (299, Severity.WARNING), (-301, Severity.BLOCKING)],
)
def test_a_clock_that_is_off_warns_and_then_blocks(offset, severity):
    """A minute is said, five minutes block, in either direction."""
    seen = observation("pi4")
    seen["time"] = THEN - 0.2 + offset

    found = read(seen)

    assert found.clock_offset == offset
    assert codes(found).get("clock") is severity


def test_a_slow_probe_does_not_make_a_clock_wrong():
    """The host's clock was read somewhere within the round trip, so that much is not held against it."""
    seen = observation("pi4")
    seen["time"] = THEN - 65

    found = read_facts("host", seen, now=THEN, round_trip=20.0)

    assert "clock" not in codes(found)


@pytest.mark.parametrize(
    ("min_api", "builders"),
    [("1.12", (Builder.DOCKER, Builder.API)), ("1.40", (Builder.DOCKER, Builder.API)), ("1.44", (Builder.API,))],
)
def test_a_cli_that_the_engine_is_too_new_for_is_no_builder(min_api, builders):
    """Docker 29.0 refuses what a 20.10 command line speaks."""
    seen = observation("engine-too-old") | {
        "clis": [{"path": "/usr/bin/docker", "version": "20.10.24", "buildx": None}]
    }
    seen["engine"] = {**seen["engine"], "api": "1.52", "min_api": min_api}

    found = read(seen)

    assert found.engine is not None
    assert found.engine.builders == builders


@pytest.mark.parametrize(
    ("fits", "builders"),
    [
        (True, (Builder.BUILDX, Builder.API)),
        (False, (Builder.API,)),
        (None, (Builder.BUILDX, Builder.API)),
    ],
)
def test_a_buildx_that_the_engine_does_not_take_is_no_builder(fits, builders):
    """As far as its agent knows; where there is none the note names both, and what to install."""
    seen = observation("engine-too-old") | {
        "clis": [{"path": "/usr/bin/docker", "version": "28.2.2", "buildx": "v0.12.1", "buildx_fits": fits}]
    }
    seen["engine"] = {**seen["engine"], "version": "29.1.0", "api": "1.52", "min_api": "1.44"}

    found = read(seen)

    assert found.engine is not None
    assert found.engine.builders == builders
    note = found.problem("no_buildx")
    assert (note is not None) is (builders == (Builder.API,))
    if note:
        assert "buildx v0.12.1 and engine 29.1.0 have no API version in common" in note.message
        assert "0.13" in note.hint


@pytest.mark.parametrize(
    ("version", "stored", "buildx", "builders"),
    [
        ("26.1.5+dfsg1", True, "v0.13.1", (Builder.BUILDX,)),
        ("26.1.5+dfsg1", False, "v0.13.1", (Builder.BUILDX, Builder.API)),
        ("27.5.0", True, "v0.13.1", (Builder.BUILDX, Builder.API)),
        ("27.4.1", True, None, ()),
        ("27.5.0", True, None, (Builder.API,)),
    ],
)
def test_an_engine_that_loses_contexts_is_not_driven_by_its_api(version, stored, buildx, builders):
    """With containerd's store it does before 27.5: without buildx nothing can build there, and that blocks."""
    seen = observation("engine-too-old") | {
        "clis": [{"path": "/usr/bin/docker", "version": "26.1.5", "buildx": buildx}]
    }
    images = {"root": "/var/lib/containerd", "free": 5 << 30, "total": 10 << 30}
    seen["engine"] = {**seen["engine"], "version": version, "api": "1.45", "images": images if stored else None}

    found = read(seen)

    assert found.engine is not None
    assert found.engine.builders == builders
    blocking = found.blocking.message if found.blocking else ""
    assert ("before 27.5 loses contexts sent through the API" in blocking) is (not builders)


@pytest.mark.parametrize(("free", "free_below"), [(9 << 30, 5 << 30), (5 << 30, 9 << 30)])
def test_the_fuller_disk_of_an_engine_counts(free, free_below):
    """Images of a containerd that is a service lie outside of the engine's root, perhaps on another disk."""
    seen = observation("pi4")
    images = {"root": "/var/lib/containerd", "free": free_below, "total": 10 << 30}
    seen["engine"] = {**seen["engine"], "free": free, "total": 20 << 30, "images": images}

    found = read(seen)

    assert found.engine is not None
    assert found.engine.images == "/var/lib/containerd"
    assert (found.disk_free, found.disk_total) == min((free, 20 << 30), (free_below, 10 << 30))


def test_a_full_disk_of_images_blocks_by_its_name():
    """The engine's own disk has room, and that of its images has none."""
    seen = observation("pi4")
    seen["engine"] = {**seen["engine"], "images": {"root": "/var/lib/containerd", "free": 1000, "total": 10 << 30}}

    found = read(seen)

    assert found.blocking is not None
    assert "/var/lib/containerd" in found.blocking.message


def test_podman_behind_dockers_socket_is_refused_by_name():
    """Its build has no BuildKit, so it is not one of the builders."""
    seen = observation("amd64-without-binfmt")
    seen["engine"] = {**seen["engine"], "kind": "podman"}

    found = read(seen)

    assert found.blocking is not None
    assert found.blocking.code == "podman"


def test_a_full_disk_blocks():
    """With less than 100 MiB nothing can be built, whoever asks for it."""
    seen = observation("pi4")
    seen["engine"] = {**seen["engine"], "free": 5_000_000}

    assert codes(read(seen))["disk"] is Severity.BLOCKING


@pytest.mark.parametrize(
    ("root", "hint"),
    [
        ("/home/pi/.local/state/archloom-agent/0a", "df -h /home/pi/.local/state/archloom-agent/0a shows the disk"),
        ("/home/it's $me/0a", """df -h '/home/it'"'"'s $me/0a' shows the disk"""),
        ("", "make room there, on the disk with the login user's home"),
    ],
)
def test_a_full_disk_of_the_agent_is_told_by_its_folder(root, hint):
    """With what is free and what is needed, and not with the engine's command; an older agent does not name it."""
    found = read({**observation("pi4"), "state_free": 6 << 20, "state_root": root})

    place = root or "the agent's folder"
    assert found.blocking is not None
    assert found.blocking.message == f"too little space below {place}: 6 MiB free, a build needs 100 or more"
    assert found.blocking.hint.removeprefix("make room there: ") == hint


@pytest.mark.parametrize(
    ("path", "severity", "hint"),
    [
        ("/run/lock", Severity.NOTE, "sudo chmod 1777 /run/lock"),
        (None, Severity.NOTE, "sudo chmod 1777 /run/lock"),
        ("/run/lock/archloom-A/slot 0", Severity.WARNING, "sudo rm -r '/run/lock/archloom-A/slot 0'"),
    ],
)
def test_what_keeps_a_login_from_the_shared_slots_is_named(path, severity, hint):
    """Another user's link or pipe in place of a lock file is told, with what removes it."""
    found = read({**observation("pi4"), "shared_slots": False, "spoilt_slots": path})

    [problem] = [problem for problem in found.problems if problem.code == "slots"]
    assert (problem.severity, problem.hint) == (severity, hint)
    assert problem.message.startswith(path or "/run/lock")
    assert not found.shared_slots


def test_asking_a_host_without_an_engine_for_its_platform_is_an_error():
    """It has none, and is never given a job."""
    with pytest.raises(ValueError, match="no engine"):
        facts("engine-down").native  # noqa: B018


ODD_WORDS = st.sampled_from(["²", "9" * 5000, "1." + "9" * 5000, "x" * 1000])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10**12)
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | ODD_WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_part_may_be_missing_or_odd(data):
    """An agent of another version is understood as far as possible, and never an error."""
    seen: dict[str, object] = copy.deepcopy(observation(data.draw(st.sampled_from(NAMES))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = seen
        while True:
            name = data.draw(st.sampled_from(sorted(place)))
            inner = place[name]
            if not isinstance(inner, dict) or not inner or data.draw(st.booleans()):
                break
            place = inner
        if data.draw(st.booleans()):
            place[name] = data.draw(JSON)
        elif len(place) > 1:
            del place[name]

    json.dumps(read(seen).to_json())


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("20.10.24+dfsg1", (20, 10, 24)), ("18.06.3-ce", (18, 6, 3)), ("29.0.0-rc.1", (29, 0, 0)), ("", ()),
        ("dev", ()), ("1." + "9" * 5000, (1,)), ("2.³", (2,)),
    ],
)  # fmt: skip
def test_versions_are_read_as_far_as_they_are_numbers(text, numbers):
    """Distributions put their own words behind."""
    assert version(text) == numbers
