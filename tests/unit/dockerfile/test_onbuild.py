"""ONBUILD of a base counts as if its instructions stood after FROM."""

from __future__ import annotations

import pytest

from coordinator.domain.dockerfile.base_config import BaseConfig
from coordinator.domain.dockerfile.bases import BaseUse, network_inputs, plan_bases
from coordinator.domain.dockerfile.pinning import pin
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import parse as platform_of
from coordinator.errors import UsageError

ARM64 = platform_of("linux/arm64")


def asked(text: str, **triggers: tuple[str, ...]) -> dict:
    configs = {(name, ARM64): BaseConfig(platform=ARM64, triggers=found) for name, found in triggers.items()}
    return {
        "dockerfile": parse(text),
        "stage": "",
        "platform": ARM64,
        "build_platform": ARM64,
        "build_args": {},
        "configs": configs,
    }


def planned(text: str, **triggers: tuple[str, ...]) -> tuple[BaseUse, ...]:
    return plan_bases(**asked(text, **triggers))


def test_an_image_that_only_an_onbuild_names_cannot_be_pinned():
    """It stands nowhere in the file. The caller is told that nothing is reused, and on which line of FROM."""
    text = "FROM scratch\nFROM golang\nCOPY --from=other a /\n"
    triggers = ("COPY --from=alpine /a /b", "RUN --mount=from=busybox,target=/x make", "COPY --from=scratch a b")

    uses = planned(text, golang=triggers)

    assert [(use.text, use.is_from, use.onbuild_of, use.position is None) for use in uses] == [
        ("golang", True, "", False),
        ("alpine", False, "golang", True),
        ("busybox", False, "golang", True),
        ("other", False, "", False),
    ]
    assert network_inputs(**asked(text, golang=triggers)) == (
        "Dockerfile:2: ONBUILD of golang names alpine: it cannot be pinned, nothing is reused",
        "Dockerfile:2: ONBUILD of golang names busybox: it cannot be pinned, nothing is reused",
    )
    pinned = pin(parse(text), {use.position: f"held/{use.text}" for use in uses if use.position is not None})
    assert pinned == "FROM scratch\nFROM held/golang\nCOPY --from=held/other a /\n"


def test_an_onbuild_that_nobody_could_read_may_fetch_anything():
    """Said once per FROM, of needed stages, and only of the bases that the caller names."""
    text = "FROM a AS unused\nFROM a AS one\nFROM one AS two\nFROM b\nCOPY --from=one x y\nCOPY --from=two x y\n"

    told = network_inputs(**asked(text), unread={("a", ARM64): "it is malformed", ("c", ARM64): "no"})

    assert told == ("Dockerfile:2: the configuration of a is not known: it is malformed",)
    assert network_inputs(**asked(text, a=()), unread={("a", ARM64): "it is malformed"}) == ()
    assert network_inputs(**asked(text)) == ()


def test_an_onbuild_of_an_image_names_stages():
    """By name and number, with what they build on, to a fixpoint."""
    text = "FROM a AS one\nFROM b AS two\nFROM c\n"

    assert [use.text for use in planned(text)] == ["c"]
    assert [use.text for use in planned(text, c=("COPY --from=two x y",))] == ["b", "c"]
    assert [use.text for use in planned(text, c=("COPY --from=1 x y",), b=("COPY --from=ONE x y",))] == ["a", "b", "c"]


def test_an_onbuild_of_an_image_may_name_its_own_stage():
    """BuildKit copies from what the stage has so far. A stage below is an error."""
    assert [use.text for use in planned("FROM a", a=("COPY --from=0 x y",))] == ["a"]
    with pytest.raises(UsageError, match="stage '1' is not above this one"):
        planned("FROM a AS x\nFROM x", a=("COPY --from=1 x y",))


def test_the_onbuild_of_a_stage_can_be_pinned():
    """It is in the file, once, for all the stages that build on it. The final image has no such ONBUILD."""
    text = (
        "FROM scratch AS a\nONBUILD COPY --from=alpine x y\n"
        "ONBUILD RUN --mount='type=bind,\"from=busybox\",target=/e' x\n"
        "FROM a AS b\nFROM a\nCOPY --from=b / /\n"
    )
    uses = planned(text)

    assert [(use.line, use.text, use.onbuild_of) for use in uses] == [(2, "alpine", ""), (3, "busybox", "")]
    assert network_inputs(**asked(text)) == ()
    pinned = pin(parse(text), {use.position: f"held/{use.text}" for use in uses if use.position is not None})
    assert [use.text for use in planned(pinned)] == ["held/alpine", "held/busybox"]
    assert planned("FROM scratch AS a\nONBUILD COPY --from=alpine x y\n") == ()


def test_downloads_of_an_onbuild_count():
    text = "FROM a\nADD $U/y /\n"
    triggers = ("ARG U=https://x", "ADD https://x/z /")

    assert network_inputs(**asked(text, a=triggers)) == (
        "Dockerfile:1: ADD https://x/z has no --checksum",
        "Dockerfile:2: ADD https://x/y has no --checksum",
    )


@pytest.mark.parametrize("trigger", ["FROM x", "ONBUILD RUN x", "MAINTAINER x", "RUN a\nRUN b", "", "RUN <<E"])
def test_a_trigger_that_no_builder_takes_is_refused(trigger: str):
    with pytest.raises(UsageError) as caught:
        planned("FROM scratch\nFROM a", a=(trigger,))

    assert caught.value.message.startswith("Dockerfile:2: ONBUILD of a ")


def test_a_trigger_may_hold_the_text_of_a_heredoc():
    assert [use.text for use in planned("FROM a", a=("RUN --mount=from=b,target=/x <<E\nFROM x\nE",))] == ["a", "b"]
