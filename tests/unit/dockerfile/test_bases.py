"""What a Dockerfile builds from is found as BuildKit finds it, and can be pinned without touching anything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.dockerfile.bases import BaseUse, network_inputs, plan_bases
from coordinator.domain.dockerfile.pinning import held_name, pin
from coordinator.domain.dockerfile.stages import Dockerfile, declared, parse
from coordinator.domain.dockerfile.syntax import detect_syntax
from coordinator.domain.image import references
from coordinator.domain.image.platforms import Platform
from coordinator.domain.image.platforms import parse as platform_of
from coordinator.errors import UsageError
from tests.services.paths import CASES

GOLDEN = CASES / "dockerfile"
AMD64, ARM64 = platform_of("linux/amd64"), platform_of("linux/arm64")
DIGEST = "sha256:" + "0123456789abcdef" * 4


def bases(text: str, stage: str = "", platform: Platform = ARM64, build: Platform = AMD64, **args: str):
    return plan_bases(parse(text), stage=stage, platform=platform, build_platform=build, build_args=args)


def texts(text: str, stage: str = "", **args: str) -> list[str]:
    return [use.text for use in bases(text, stage, **args)]


def read_case(name: str) -> Dockerfile:
    return parse((GOLDEN / name / "Dockerfile").read_bytes().decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_golden(case: str):
    """Real-life files: which image is used where, for which platform, and what is fetched unseen."""
    expected = json.loads((GOLDEN / case / "expected.json").read_bytes())
    dockerfile = read_case(case)

    syntax = detect_syntax(dockerfile.text)
    assert expected.get("syntax", "") == (syntax.image if syntax else "")
    for run in expected["runs"]:
        asked = {
            "stage": run.get("stage", ""),
            "platform": platform_of(run["platform"]),
            "build_platform": AMD64,
            "build_args": run.get("args", {}),
        }
        if "refused" in run:
            with pytest.raises(UsageError) as caught:
                plan_bases(dockerfile, **asked)
            assert run["refused"] == caught.value.message
            continue
        uses = plan_bases(dockerfile, **asked)
        assert run["uses"] == [[use.line, use.text, str(use.platform)] for use in uses]
        assert run.get("network", []) == list(network_inputs(dockerfile, **asked))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "Dockerfile: there is no FROM", "begin with FROM"),
        ("# only words\n", "Dockerfile: there is no FROM", "begin with FROM"),
        ("ARG A=1\nRUN x\nFROM a", "Dockerfile:2: RUN comes before any FROM", "only ARG"),
        ("FROM a\nCPOY a b", "Dockerfile:2: unknown instruction 'CPOY'", "did you mean COPY?"),
        ("FROM a\nRUN a \\\n&& b\n&& c", "Dockerfile:4: unknown instruction '&&'", "use one of FROM"),
        (
            "FROM a AS x\nCOPY b\nFROM a",
            "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could not be",
            "write COPY SOURCE… DESTINATION",
        ),
        ('FROM a\nADD --chown=1 ["b"]', "Dockerfile:2: ADD requires at least two arguments, but only one", "write ADD"),
        ("FROM a\nCOPY --from=b", "Dockerfile:2: COPY requires at least two arguments, but none", "write COPY"),
        ("FROM a\nCOPY []", "Dockerfile:2: COPY requires at least two arguments, but none", "write COPY"),
        ("FROM a\nCOPY <<E\nx\nE", "Dockerfile:2: COPY requires at least two arguments, but only one", "write COPY"),
        ("FROM a\nWORKDIR", "Dockerfile:2: WORKDIR requires exactly one argument", "or remove WORKDIR"),
        ("ARG\nFROM a", "Dockerfile:1: ARG requires at least one argument", "or remove ARG"),
        ("FROM a\nVOLUME []", "Dockerfile:2: VOLUME requires at least one argument", "or remove VOLUME"),
        ("FROM", "Dockerfile:1: FROM does not accept ''", "[AS name]"),
        ("FROM a b", "Dockerfile:1: FROM does not accept 'a b'", "[AS name]"),
        ("FROM a # why", "Dockerfile:1: FROM does not accept 'a # why'", "a comment on its own line"),
        ("FROM a AS 1st", "Dockerfile:1: '1st' cannot name a stage", "begin with a letter"),
        ("FROM --plattform=linux/arm64 a", "Dockerfile:1: FROM has no flag --plattform", "--platform"),
        ("FROM $X", "Dockerfile:1: FROM $X names no image: X has no value", "ARG X=…), then --build-arg X=…"),
        ("ARG X\nFROM ${X}", "Dockerfile:2: FROM ${X} names no image: X has no value", "--build-arg X=…"),
        ("ARG X=\nFROM a:$X", "Dockerfile:2: invalid reference 'a:': the tag is empty", "--build-arg X=…"),
        ("FROM ''", "Dockerfile:1: FROM '' names no image", "or scratch"),
        ("FROM ${X:?say-it}", "Dockerfile:1: '${X:?say-it}' cannot be expanded: X: say-it", "ARG X="),
        ("FROM 'a", "Dockerfile:1: ''a' cannot be expanded: a single quote is not closed", "close the quote"),
        ("FROM ${X^}", "Dockerfile:1: '${X^}' cannot be expanded: '^' is not a substitution operator", "ARG X="),
        ("FROM --platform=$BULDPLATFORM a", "Dockerfile:1: --platform=$BULDPLATFORM is empty", "mean $BUILDPLATFORM?"),
        ("FROM --platform=linux/$A a", "Dockerfile:1: --platform=linux/$A is not a platform: 'linux/'", "ARG A="),
        ("FROM --platform=linux/arm64v8 a", "'linux/arm64v8'", "did you mean linux/arm64?"),
        ("FROM a AS Build\nFROM Build", "Dockerfile:2: invalid reference 'Build'", "lower case: FROM build"),
        ("FROM Alpine", "Dockerfile:1: invalid reference 'Alpine'", "lower case"),
        ("FROM a\nCOPY --from=$X a b", "Dockerfile:2: COPY --from does not expand variables: $X", "FROM $X AS source"),
        (
            "FROM a\nRUN --mount=from=i:$X,target=/x y",
            "RUN --mount from does not expand variables: i:$X",
            "FROM i:$X AS",
        ),
        ("FROM a\nCOPY --from=3 a b", "Dockerfile:2: there is no stage 3", "there are 1 stages"),
        ("FROM a AS x\nCOPY --from=x a b", "Dockerfile:2: stage 'x' is not above this one", "above this one"),
        ("FROM a\nRUN <<EOF\nx\nEOF2\n", "Dockerfile:2: the heredoc 'EOF' does not end", "end it with a line"),
        ("# escape=x\nFROM a", "Dockerfile:1: 'x' cannot be the escape character", "use \\ or"),
        ("# escape=`\n# escape=`\nFROM a", "Dockerfile:2: a second 'escape' directive", "keep one"),
    ],
)
def test_what_cannot_be_built_is_refused(text: str, message: str, hint: str):
    """What a build would fail for is said before anything is sent: file, line, and what to do."""
    with pytest.raises(UsageError) as caught:
        bases(text)

    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "line", ["WORKDIR []", "USER [ ]", "LABEL [ ]", "ONBUILD []", "VOLUME [] /w", "USER \x1c", "ARG \u3000--x"]
)
def test_what_is_no_json_form_is_an_argument(line: str):
    """BuildKit reads JSON where the instruction has that form and nothing follows; U+001C is no blank to it."""
    assert texts(f"FROM a\n{line}") == ["a"]


@pytest.mark.parametrize("keyword", ["COPY", "VOLUME"])
def test_lists_in_lists_are_words(keyword: str):
    """However deep."""
    assert texts(f"FROM a\n{keyword} x {'[' * 90_000}") == texts(f"FROM a\n{keyword} {'[' * 90_000} x") == ["a"]


def test_a_stage_that_is_not_there():
    """A wrong `--target` names the stages there are."""
    with pytest.raises(UsageError) as caught:
        bases("FROM a AS build\nFROM b AS run", "biuld")

    assert caught.value.message == "Dockerfile has no stage 'biuld'"
    assert caught.value.hint == "did you mean build? its stages are build, run"


def test_stages_are_not_images():
    """A FROM of an earlier stage, `scratch`, and a stage by name or number are no bases; a later name is an image."""
    text = "FROM next AS one\nFROM scratch AS next\nCOPY --from=scratch a b\nFROM next\nFROM next AS x\nFROM scratch\n"

    assert texts(text, "x") == []
    assert texts(text + "COPY --from=ONE a b\nCOPY --from=2 a b\nRUN --mount=from=X,target=/x y") == ["next"]


def test_the_last_of_two_stages_of_one_name_counts():
    """As in BuildKit, where a stage of the same name hides the one before."""
    assert texts("FROM a AS x\nFROM b AS x\nFROM x") == ["b"]
    assert texts("FROM a AS x\nFROM b AS x\nFROM c", "x") == ["b"]


def test_platform_arguments_can_be_overridden():
    """`--build-arg` and an ARG with a default win over the platform arguments; an ARG without one does not."""
    assert texts("FROM a:$TARGETARCH", TARGETARCH="x") == ["a:x"]
    assert texts("ARG TARGETARCH=y\nFROM a:$TARGETARCH") == ["a:y"]
    assert texts("ARG TARGETARCH\nFROM a:$TARGETARCH") == ["a:arm64"]


def test_the_build_platform_is_the_value_that_was_given():
    """Whatever stands for the build platform comes back for `$BUILDPLATFORM`, and for a bare operating system."""
    host = Platform("host", "any")
    text = "FROM --platform=$BUILDPLATFORM a AS x\nFROM --platform=linux b\nCOPY --from=x / /\nCOPY --from=c / /"

    uses = bases(text, build=host)

    assert [(use.text, use.platform) for use in uses] == [("a", host), ("b", host), ("c", ARM64)]
    for written in ("linux/$BUILDARCH", "$BUILDOS/${BUILDARCH}"):
        assert bases(f"FROM --platform={written} a", build=host)[0].platform == host


def test_variables_of_a_stage_decide_what_add_fetches():
    """ARG and ENV of a stage, and of the stages it goes on from, are known; only what stays unknown may be a URL."""
    text = (
        "ARG JAR=app.jar\nFROM a AS x\nENV SITE https://example.org/a b\nFROM x\nARG JAR\nARG TARGETARCH\n"
        "ADD ${JAR} $SITE/x.${TARGETARCH} ${JAR}-$NOBODY '$A' <<EOF /y\nEOF\n"
    )

    found = network_inputs(parse(text), stage="", platform=ARM64, build_platform=AMD64, build_args={})
    given = network_inputs(
        parse(text), stage="", platform=ARM64, build_platform=AMD64, build_args={"JAR": "ssh://git@example.org/a"}
    )

    assert found == ("Dockerfile:7: ADD https://example.org/a b/x.arm64 has no --checksum",)
    assert given[0] == "Dockerfile:7: ADD ssh://git@example.org/a names no commit"


@pytest.mark.parametrize(
    ("text", "args", "found"),
    [
        ("ARG SUM\nADD --checksum=$SUM https://x/y /", {}, "ADD https://x/y has no value for --checksum=$SUM"),
        ("ARG SUM\nADD --checksum=$SUM https://x/y /", {"SUM": DIGEST}, ""),
        (f"ARG SUM={DIGEST}\nADD --checksum=${{SUM}} https://x/y /", {}, ""),
        (f"ADD --checksum={DIGEST} https://x/y /", {}, ""),
        ('ADD ["https://x/y", "/"] # why', {}, "ADD https://x/y has no --checksum"),
        ("ADD --checksum=sha256:1 https://x/y /", {}, "ADD https://x/y has no digest in --checksum=sha256:1"),
        (
            f"ADD --checksum={DIGEST.upper()} https://x/y /",
            {},
            f"ADD https://x/y has no digest in --checksum={DIGEST.upper()}",
        ),
        ("ARG C\nADD --checksum=$C https://x/y.git /", {}, "ADD https://x/y.git names no commit"),
        ("ARG C\nADD --checksum=$C https://x/y.git /", {"C": "0123456789" * 4}, ""),
        (
            f"ENV S={DIGEST}\nARG S\nADD --checksum=$S https://x/y /",
            {"S": ""},
            "ADD https://x/y has no digest in --checksum=$S",
        ),
    ],
)
def test_a_checksum_pins_a_download_where_it_has_a_value(text: str, args: dict[str, str], found: str):
    """BuildKit takes an empty one for none, and rejects what is no digest."""
    reasons = network_inputs(parse(f"FROM a\n{text}"), stage="", platform=ARM64, build_platform=AMD64, build_args=args)

    assert [reason.partition(": ")[2] for reason in reasons] == ([found] if found else [])


@pytest.mark.parametrize(
    ("mount", "base"),
    [
        ("'type=bind,\"from=alpine\",target=/e'", "alpine"),
        ('type=bind,\\"FROM=alpine\\",target=/e', "alpine"),
        ("from=busybox,from=alpine,target=/e", "alpine"),
        ("from=alpine,from=,target=/e", ""),
        ("'type=bind,\"source=a,from=b\",target=/e'", ""),
        ("'from=\"alpine\"'", ""),
    ],
)
def test_a_mount_names_its_image_in_csv(mount: str, base: str):
    """With its quotes, in any case; the last one counts. Pinned, it is the same CSV."""
    text = f"FROM scratch\nRUN --mount={mount} make\n"
    uses = bases(text)

    assert [use.text for use in uses] == ([base] if base else [])
    pinned = pin(parse(text), {use.position: "localhost:1/held:1" for use in uses if use.position is not None})
    assert texts(pinned) == (["localhost:1/held:1"] if base else [])
    assert ("busybox" in pinned) == ("busybox" in text)


def test_only_a_from_has_a_configuration_that_counts():
    uses = bases("FROM a AS x\nCOPY --from=b / /\nRUN --mount=from=c,target=/c y\nFROM x\n")

    assert [(use.text, use.is_from) for use in uses] == [("a", True), ("b", False), ("c", False)]


FRAGMENTS = (
    "FROM alpine:3.20\n", "from --platform=$BUILDPLATFORM 'golang:1' as b\n", "FROM scratch\n", "FROM b AS c\n",
    "FROM de\\\n# why\n\nbian:\\\n12\n", "COPY --from=A0 /x /y\n", 'COPY --link --from="nas:5000/x" /x /y\r\n',
    "RUN --mount=type=bind,from=i:1,target='/a b' \\\n  --mount=from=\\j:2,target=/j make <<E <<-F\nFROM x\nE\n\tF\n",
    "COPY --from=\\\nq:1 a b\n", "# FROM me\n", "\n", "ONBUILD COPY --from=x a b\n", "ENV A=b\\\n\\\n c=d\n",
    'RUN --mount=\'type=bind,"from=csv:1",target=/c\' make\n',
    "FROM a0 AS later\nONBUILD COPY --from=trigger:1 a b\nFROM later\n",
)  # fmt: skip
DOCKERFILES = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(
    lambda found: "FROM base AS a0\nFROM a0\n" + "".join(found)
)


@given(DOCKERFILES)
def test_pinning_to_what_is_written_changes_nothing(text: str):
    """The same names give the same bytes, and so does pinning nothing."""
    uses = bases(text)

    assert pin(parse(text), {use.position: use.written for use in uses}) == text
    assert pin(parse(text), {}) == text


@given(DOCKERFILES)
def test_pinned_names_are_what_the_builder_reads(text: str):
    """Read again, the pinned text has the new names in the same lines, and as many lines as before."""
    uses = bases(text)
    names = {use.position: f"localhost:1/held:{index}" for index, use in enumerate(uses)}

    pinned = pin(parse(text), names)

    def seen(found: tuple[BaseUse, ...]) -> list[tuple[int, Platform]]:
        return [(use.line, use.platform) for use in found]

    assert list(names.values()) == texts(pinned)
    assert seen(uses) == seen(bases(pinned))
    assert text.count("\n") == pinned.count("\n")
    assert [line for line in text.split("\n") if "#" in line] == [line for line in pinned.split("\n") if "#" in line]


@given(
    st.from_regex(r"\A([a-z0-9-]{1,60}\.lan(:5000)?/)?[a-z0-9]{1,80}(/[a-z0-9]{1,80}){0,2}(:\w[\w.-]{0,127})?\Z"),
    st.sampled_from(["", f"@{DIGEST}"]),
)
def test_held_names_are_references(text: str, digest: str):
    """A held name is a reference of at most 255 characters on the registry that never answers, one for each digest."""
    try:
        references.parse(text)
    except UsageError:
        return
    text += digest

    name = held_name(text, DIGEST)

    assert references.parse(name).registry == "localhost:1"
    assert len(name) <= 255
    assert name == held_name(text, DIGEST) != held_name(text, "sha256:" + "f" * 64)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alpine:3.20", "localhost:1/library/alpine:3.20-0123456789ab"),
        ("alpine", "localhost:1/library/alpine:latest-0123456789ab"),
        (f"ghcr.io/a/b@{DIGEST}", "localhost:1/ghcr.io/a/b:0123456789ab"),
        ("NAS.lan:5000/x:1", "localhost:1/nas.lan-5000/x:1-0123456789ab"),
        ("[fd00::1]:5000/x:1", "localhost:1/fd00-1-5000/x:1-0123456789ab"),
    ],
)
def test_held_names_say_what_they_hold(text: str, name: str):
    """The registry is part of the path, spelled so that a path may have it."""
    assert held_name(text, DIGEST) == name


def test_every_declared_argument_is_found():
    """Before the first FROM and in any stage, several in one ARG, with and without a default."""
    text = "ARG A\nFROM a AS one\nARG B=1 C\nENV D=1\nFROM one\narg \\\n  E='x y'\n"

    assert declared(parse(text)) == {"A", "B", "C", "E"}
