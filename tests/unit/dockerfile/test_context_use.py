"""What a whole build takes of a context: by stages, bases, frontends, and the platform of the host."""

from __future__ import annotations

import pytest

from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.bases import BUILD_PLATFORM
from coordinator.domain.dockerfile.context_sources import ContextUse, context_use
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import Platform
from tests.unit.dockerfile.context_uses import AMD64, ARM64, PLAIN, everything, of, paths, use


def test_nothing_is_taken():
    """The empty set, which no build transfers."""
    assert use('FROM scratch\nENV A=b\nCMD ["x"]') == ContextUse()


def test_what_a_stage_needs_is_taken_and_no_more():
    """Of the target, of the stages it builds on or copies from, by name in any case or by number."""
    text = (
        "FROM scratch AS one\nCOPY 1 /\nFROM scratch AS two\nCOPY 2 /\nFROM one AS three\nCOPY 3 /\n"
        "FROM scratch AS four\nCOPY 4 /\nFROM scratch AS five\nCOPY --from=TWO 2 /\nCOPY --from=3 4 /\n"
        "RUN --mount=from=Three,target=/x y\n"
    )

    assert paths(text) == ["1", "2", "3", "4"]
    assert paths(text, stage="three") == ["1", "3"]
    assert paths(text, stage="TWO") == ["2"]


def test_a_variable_of_the_base_image_counts():
    """Through a chain of stages; PATH has a value in every image."""
    text = "FROM image AS one\nARG V=x\nFROM one\nCOPY $V-$W $PATH /\nFROM scratch\nCOPY --from=1 / /\nCOPY a$PATH /"
    config = BaseConfig(platform=ARM64, environment={"W": "w", "PATH": "/bin"})

    assert paths(text, configs={"image": config}) == [
        "x-w",
        "bin",
        "a/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def test_where_builders_disagree_about_a_variable_both_are_taken():
    """ENV wins over ARG and the first ARG over others in Docker 20.10; today the last wins. Neither must exist."""
    found = use("FROM scratch\nENV A=env\nARG A=arg\nARG B=1\nARG B=2\nCOPY $A $B c /")

    assert [source.path for source in found.sources] == ["arg", "2", "c", "env", "1"]
    assert not any(source.required for source in found.sources)


def test_text_after_a_json_list_has_two_readings():
    """BuildKit before 0.15 drops it; later ones read no JSON, so that nothing is known of what is taken."""
    text = 'FROM scratch\nCOPY ["a", "/"] # why'

    assert use(text).everything == "Dockerfile:2: what COPY takes is not known: text follows its JSON list"
    assert use('FROM scratch\nFROM scratch\nCOPY --from=0 ["a", "/"] x').everything == ""
    assert paths('FROM scratch\nCOPY ["a", "/"]') == ["a"]


def test_the_configuration_of_every_base_must_be_known():
    """Its ONBUILD may take anything. An image that is only copied from has no such effect."""
    text = "FROM image AS one\nFROM scratch\nCOPY a /\nCOPY --from=one / /\nCOPY --from=other / /"

    assert use(text).everything == (
        "Dockerfile:1: the configuration of image is not known, and its ONBUILD may take any file"
    )
    assert paths(text, configs={"image": PLAIN}) == ["a"]


def test_a_base_of_the_host_is_known_for_every_host():
    """By the placeholder: `configs` has what all images of the base have in common."""
    text = "FROM --platform=$BUILDPLATFORM image\nCOPY $X /"
    configs = {("image", BUILD_PLATFORM): BaseConfig(platform=BUILD_PLATFORM, environment={"X": "x"})}

    found = context_use(
        parse(text), stage="", platform=ARM64, build_platforms=(AMD64, ARM64), build_args={}, configs=configs
    )

    assert [source.path for source in found.sources] == ["x"]


def test_what_must_exist_is_told_of_everything():
    """Literal sources, where the configuration of the base cannot change their variables."""
    lines = "COPY . .\nARG A=a\nCOPY $A b* $UNSET/c e /x/\nRUN --mount=source=d x"

    assert [found.path for found in use(f"FROM scratch\n{lines}").sources] == ["a", "e", "d"]
    assert [found.path for found in use(f"FROM unknown\n{lines}").sources] == ["e", "d"]
    assert use(f"# syntax=x/y\nFROM scratch\n{lines}").sources == ()
    assert use(f"FROM scratch\nARG BUILDARCH\n{lines}\nCOPY $BUILDARCH /", hosts=(AMD64, ARM64)).sources == (
        use(f"FROM scratch\n\n{lines}").sources
    )


def test_a_base_that_is_known_for_the_target_alone_is_not_known():
    """One of the hosts has the target's platform, and the others have an image that nobody read."""
    text = "FROM --platform=$BUILDPLATFORM image AS tools\nFROM image\nCOPY a-$BUILDARCH /\nCOPY --from=tools / /"

    found = context_use(
        parse(text),
        stage="",
        platform=ARM64,
        build_platforms=(ARM64, AMD64),
        build_args={},
        configs={("image", ARM64): PLAIN},
    )

    assert found.everything.startswith("Dockerfile:1: the configuration of image is not known")


def test_onbuild_of_an_image_takes_files():
    config = BaseConfig(
        platform=ARM64,
        environment={"D": "dir"},
        triggers=("COPY package*.json $D/", "ADD $D /x", "RUN --mount=source=m,target=/m make", "COPY <<E /x\ny\nE"),
    )

    assert paths("FROM node\nCOPY a /", configs={"node": config}) == ["go:package*.json", "dir", "m", "a"]
    whole = use("\nFROM node\n", configs={"node": BaseConfig(platform=ARM64, triggers=("COPY . /app",))})
    assert whole.everything == "Dockerfile:2: ONBUILD of node: COPY . takes the whole context"


def test_onbuild_of_a_stage_counts_for_the_stages_that_build_on_it():
    """Once: not for itself, and not for a stage further on."""
    text = (
        "FROM scratch AS one\nONBUILD COPY 1 /\nONBUILD COPY --from=src x /\nFROM one AS two\nONBUILD ADD 2 /\n"
        "FROM two AS three\n"
    )
    source = "FROM scratch AS src\nCOPY 3 /\n"

    assert paths(source + text, stage="one") == []
    assert paths(source + text, stage="two") == ["3", "1"]
    assert paths(source + text, stage="three") == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("text", "args", "reason"),
    [
        ("# syntax=x/y:1\nFROM scratch\nCOPY a /", {}, "Dockerfile:1: the frontend x/y:1 may take any file"),
        ("#!/x\n# syntax=y\nFROM scratch", {}, "Dockerfile:2: the frontend y may take any file"),
        (
            "# syntax=docker/dockerfile:1\nFROM scratch\nCOPY a /",
            {"BUILDKIT_SYNTAX": "x/y"},
            "Dockerfile: the build argument BUILDKIT_SYNTAX: the frontend x/y may take any file",
        ),
    ],
)
def test_another_frontend_may_take_anything(text: str, args: dict[str, str], reason: str):
    assert use(text, **args).everything == reason


def test_buildkits_own_frontend_on_any_registry_is_known():
    assert paths("# syntax=nas.lan:5000/docker/dockerfile:1\n# check=skip=all\nFROM scratch\nCOPY a /") == ["a"]
    assert paths("# syntax=x/y\nFROM scratch\nCOPY a /", BUILDKIT_SYNTAX="docker/dockerfile:1") == ["a"]


def test_what_depends_on_the_host_that_builds_is_everything():
    """Where hosts differ in what they would take; a variable that leads to the same paths does no harm."""
    text = "FROM scratch\nARG BUILDARCH\nARG BUILDOS\nCOPY a /\nCOPY $BUILDOS/$BUILDARCH* /"

    assert use(text, hosts=(AMD64, ARM64)).everything == (
        "Dockerfile:5: what is taken depends on the platform of the host that builds"
    )
    assert paths(text, hosts=(AMD64,)) == ["a", "go:linux/amd64*"]
    assert of("ARG BUILDOS\nCOPY $BUILDOS /", hosts=(AMD64, ARM64)) == ["linux"]
    assert of("ARG BUILDARCH\nCOPY $BUILDARCH /", hosts=(AMD64, ARM64), BUILDARCH="x") == ["x"]


def test_platforms_take_different_paths():
    text = "FROM scratch\nARG TARGETARCH\nCOPY bin-$TARGETARCH /"

    assert paths(text) == ["bin-arm64"]
    assert paths(text, platform=AMD64) == ["bin-amd64"]


def test_a_scanner_of_the_context_takes_everything():
    assert everything("COPY a /", BUILDKIT_SBOM_SCAN_CONTEXT="true")
    assert everything("ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nCOPY a /")


def test_sources_on_windows_are_not_understood():
    windows = Platform("windows", "amd64")

    assert use("FROM w\nCOPY a\\b c:/", platform=windows, configs={"w": PLAIN}).everything
