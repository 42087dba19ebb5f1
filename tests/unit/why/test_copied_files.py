"""Which instruction takes a file of the context."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.image.platforms import parse as platform
from coordinator.domain.why.copied_files import CopySource, copy_sources

FILE = r"""
FROM a AS build
ARG SRC=src
COPY go.mod go.sum ./
COPY ${SRC}/*.go /x/
COPY ["my file", "/y"]
RUN --mount=type=bind,source=web,target=/w --mount=type=cache,target=/c make all
FROM other AS unused
COPY unused.txt /
FROM c
COPY --from=build /x /x
ADD https://example.org/z git@example.org:a/b.git /z
ADD --chown=1:1 ./conf.d /etc/
COPY --parents lib/**/*.py /
COPY <<EOF /a
EOF
"""


def takers_of(text: str, **args: str) -> tuple[CopySource, ...]:
    return copy_sources(
        parse(text), stage="", platform=platform("linux/arm64"), build_platform=platform("linux/amd64"), build_args=args
    )


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("COPY --from=build a /x", False),
        ("COPY --chown=1 a /x", True),
        ("RUN --mount=target=/w make", True),
        ("RUN --mount=type=bind,src=a,target=/w make", True),
        ("RUN --mount=type=bind,src=b,target=/w make", False),
        ("RUN --mount=type=bind,SOURCE=a,target=/w make", True),
        ("RUN --mount=from=build,source=a,target=/w make", False),
        ("RUN --mount=type=cache,source=a,target=/w make", False),
        ("RUN --network=none make", False),
    ],
)
def test_what_another_stage_or_a_cache_gives_is_not_of_the_context(text, taken):
    """A bind mount without a source is of the whole context."""
    found = takers_of(f"FROM x AS build\nFROM y\n{text}\n")

    assert any(taker.takes("a") for taker in found) is taken


@pytest.mark.parametrize(
    ("path", "by"),
    [
        ("go.mod", ["COPY go.mod go.sum ./"]),
        ("src/main.go", ["COPY ${SRC}/*.go /x/"]),
        ("src/deep/main.go", []),
        ("src/main.c", []),
        ("my file", ['COPY ["my file", "/y"]']),
        ("web/index/a.html", ["RUN make all"]),
        ("webx", []),
        ("conf.d/sites/a", ["ADD ./conf.d /etc/"]),
        ("lib/a.py", ["COPY lib/**/*.py /"]),
        ("lib/a/b/c.py", ["COPY lib/**/*.py /"]),
        ("lib/a/b/c.txt", []),
        ("unused.txt", []),
        ("z", []),
    ],
)
def test_who_takes_a_file(path, by):
    """By name, pattern or folder, with variables; not of stages that are not built, nor what is not of the context."""
    found = [taker.text for taker in takers_of(FILE) if taker.takes(path)]

    assert found == by


def test_an_argument_decides():
    """What was given on the command line stands before the default."""
    text = "FROM a\nARG SRC=src\nCOPY ${SRC} /\n"

    assert [taker.takes("src/a") for taker in takers_of(text)] == [True]
    assert [taker.takes("src/a") for taker in takers_of(text, SRC="other")] == [False]


@pytest.mark.parametrize("source", [".", "./", "/", '""', "..", "../..", "*", "**"])
def test_everything(source):
    """A context has nothing above it."""
    (taker,) = takers_of(f"FROM a\nCOPY {source} /\n")

    assert taker.takes("a/b")


@pytest.mark.parametrize(
    ("source", "path", "takes"),
    [
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a[0-9]", "a5/x", True),
        ("a.c", "abc", False),
        ("[z-a]", "z", False),
        ("../a", "a", True),
    ],
)
def test_patterns(source, path, takes):
    """As Go's filepath.Match reads them."""
    (taker,) = takers_of(f"FROM a\nCOPY {json.dumps([source, '/'])}\n")

    assert taker.takes(path) is takes


@given(st.text(), st.text())
def test_no_pattern_is_too_odd(source, path):
    """Whatever stands in a file."""
    assert all(taker.takes(path) in (True, False) for taker in takers_of(f"FROM a\nCOPY {json.dumps([source, '/'])}\n"))


def test_a_long_instruction_is_cut():
    """It names the instruction, it does not repeat it."""
    (taker,) = takers_of("FROM a\nCOPY " + "x" * 100 + " /\n")

    assert len(taker.text) == 60
    assert taker.text.endswith("…")
