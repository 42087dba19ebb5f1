"""What instructions take of a context: never less than BuildKit takes, and no more where that is understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dockerfile.context_uses import everything, of, paths, use


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("a", "a"),
        ("/a", "a"),
        ("./a/", "a"),
        ("a//b/./c/..", "a/b"),
        ("../../a", "a"),
        ("a/../../b", "b"),
        ('"a"', "a"),
        ("a\\ b".replace(" ", "c"), "acb"),
        ("a]^{}b", "a]^{}b"),
        ("github.com/x/y", "github.com/x/y"),
        ("C:/x", "C:/x"),
        (".dockerignore", ".dockerignore"),
        ("Dockerfile", "Dockerfile"),
    ],
)
def test_sources_are_cleaned_without_a_look_at_links(source: str, path: str):
    """`..` stops at the root of the context."""
    assert of(f"COPY {source} /x") == of(f"ADD {source} /x") == [path]


@pytest.mark.parametrize("source", [".", "/", "./", "..", "a/..", "../..", "''", "/./", "$NOTHING", "//"])
@pytest.mark.parametrize("keyword", ["COPY", "ADD"])
def test_the_root_is_everything(keyword: str, source: str):
    assert (
        everything(f"COPY a /\n{keyword} b {source} /x") == f"Dockerfile:3: {keyword} {source} takes the whole context"
    )


def test_what_comes_from_elsewhere_is_not_of_the_context():
    """Other stages, images, `scratch`, URLs, heredocs. An empty `--from` is the context."""
    text = (
        "COPY --from=alpine a /\nCOPY --from=scratch b /\nADD http://x/c https://x/d.git /\nCOPY <<E <<-'F' /\nE\nF\n"
    )

    assert of(text + "COPY --from= e <<G /\nG") == ["e"]


def test_only_add_reads_git_repositories():
    """The frontend of Docker 20.10 has no such ADD: there it is a file, which need not exist."""
    found = use("FROM scratch\nADD git@x:a/b.git ssh://x/c /\nCOPY d /")

    assert [(source.path, source.required) for source in found.sources] == [
        ("git@x:a/b.git", False),
        ("ssh:/x/c", False),
        ("d", True),
    ]


def test_words_in_the_json_form():
    assert of('COPY ["a b", "[c]", "/x y"]') == ["a b", "go:[c]"]
    assert everything("COPY [a, /x]") == "Dockerfile:2: COPY [a, takes the whole context"


def test_variables_of_the_scope():
    """ARG, ENV, build arguments and global ARGs, in words and in the JSON form; defaults and substitutions."""
    text = (
        "ARG G=g\nFROM scratch AS base\nENV E=e\nARG A=a\nFROM base\nARG G\nARG TARGETARCH\n"
        "COPY $E/${A}-$G ${Y:-y}.$TARGETARCH /"
    )

    assert paths(text) == ["e/a-g", "y.arm64"]
    assert of('ARG A=a\nCOPY ["$A b", "/"]') == ["a b"]
    assert of("ARG A=a\nCOPY $A /", A="b/../c") == ["c"]
    assert of("ARG A=a\nCOPY '$A' /") == of("ARG A=a\nCOPY \\$A /") == ["$A"]


def test_flags():
    """Those of BuildKit change nothing about the sources; `--exclude` is not subtracted; others are not known."""
    assert of("COPY --link --chown=1:1 --chmod=755 --exclude=b/* a /") == ["a"]
    assert of("ADD --keep-git-dir --unpack=false --checksum=sha256:x --link a /") == ["a"]
    assert everything("COPY --into=x a /") == "Dockerfile:2: what COPY --into takes is not known"
    assert everything("COPY --frmo=x a /") == (
        "Dockerfile:2: what COPY --frmo takes is not known (did you mean --from?)"
    )
    assert everything("ADD --parents a /") == "Dockerfile:2: what ADD --parents takes is not known"
    for flag in ("parents", "exclude=x"):
        labs = use(f"# syntax=docker/dockerfile:1.7-labs\nFROM scratch\nCOPY --{flag} a /")
        assert labs.everything == f"Dockerfile:3: what COPY --{flag.partition('=')[0]} takes is not known"


def test_what_cannot_be_expanded_is_everything():
    assert everything("COPY a ${X:?no} /") == "Dockerfile:2: COPY ${X:?no} cannot be expanded: X: no"
    assert everything("COPY 'a /").startswith("Dockerfile:2: COPY 'a cannot be expanded")


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("*", "go:*"),
        ("./*", "go:*"),
        ("a/*/c?", "go:a/*/c?"),
        ("a/**/c", "go:a/**/c"),
        ("a[0-9]", "go:a[0-9]"),
        ("a[!b]c", "go:a[!b]c"),
        ("[[:x:]]", "go:[[:x:]]"),
        ("a\\\\*b", "a\\*b"),
        ("d/a\\\\*b*", "go:d/a\\*b*"),
        # A class that matches `/`, or is malformed in a component: the literal folder before it.
        ("d/a[^b]*", "d"),
        ("d/*[+-9]", "d"),
        ("d/e/[]a]", "d/e"),
        ("d/[a/b]", "d"),
        ("d/*\\\\/e", "d"),
    ],
)
def test_wildcards(source: str, taken: str):
    """As Go's filepath.Match takes them; `*` names entries one by one, it is not the root."""
    assert of(f"COPY {source} /x") == [taken]


def test_a_class_that_may_match_a_slash_at_the_top_is_everything():
    assert everything("COPY [^a]* /x/") == "Dockerfile:2: COPY [^a]* takes the whole context"


def test_a_leading_exclamation_mark_is_taken_but_need_not_exist():
    """BuildKit's transfer reads it as an exception and sends no such file."""
    (source,) = use("FROM scratch\nCOPY !a /").sources

    assert (source.path, source.required) == ("!a", False)


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("a/b", "a/b"),
        ("./a/./b/c", "a/b/c"),
        ("a/./../b", "a/b"),
        ("a/./", "a"),
        ("/./a", "a"),
        ("a/**/*.go", "include:a/**/*.go"),
        ("a*/./b", "include:a*/b"),
        ("a/**", "a"),
        ("a/*", "include:a/*"),
        ("a/b[c]", "a"),
        ("a/./!b", "a"),
        ("a/\\\\*", "a"),
    ],
)
def test_parents(source: str, taken: str):
    """A pattern as in an ignore file, relative to what precedes `/./`; modes of all folders on the way count."""
    assert of(f"COPY --parents {source} /x") == [taken]
    (found,) = use(f"FROM scratch\nCOPY --parents=true {source} /x").sources
    assert (found.parents, found.own_mode) == (True, True)
    assert found.required is (source in {"a/b", "./a/./b/c", "a/./../b", "a/./", "/./a"})


def test_parents_of_everything_and_of_odd_names():
    for written in (". /x", "** /x", "!a /x", '["a ", "/x"]'):
        assert everything(f"COPY --parents {written}")
    assert of("COPY --parents=false a/* /x") == ["go:a/*"]


@pytest.mark.parametrize(
    ("mount", "taken"),
    [
        ("source=a,target=/x", ["a"]),
        ("type=bind,src=a/../b,dst=/x", ["b"]),
        ("TYPE=BIND,SOURCE=/a,target=/x", ["a"]),
        ("source=a,src=b,target=/x", ["b"]),
        ("'type=bind,\"source=a,b\",target=/x'", ["a,b"]),
        ("source=a*,target=/x", ["a*"]),
        ("source=$D/a,target=/x", ["$D/a", "dir/a"]),
        ("type=$K,source=a,target=/x", ["a"]),
        ("from=,source=a,target=/x", ["a"]),
        ("from=other,from=,source=a,target=/x", ["a"]),
        ("from=other,source=a,target=/x", []),
        ("type=cache,target=/x", []),
        ("type=cache,source=a,target=/x", []),
        ("type=tmpfs,target=/x", []),
        ("type=secret,id=x", []),
        ("type=ssh", []),
        ("TYPE=Cache,target=/x", []),
    ],
)
def test_bind_mounts(mount: str, taken: list[str]):
    """No wildcards; variables as written and expanded, as one or the other builder takes them."""
    found = use(f"FROM scratch\nENV D=dir K=bind\nRUN --mount={mount} make")

    assert [source.path for source in found.sources] == taken
    assert not any(source.wildcard or not source.own_mode for source in found.sources)
    assert [source for source in found.sources if source.required] == ([] if "$" in mount else list(found.sources))


@pytest.mark.parametrize(
    "mount",
    [
        "target=/x",
        "source=.,target=/x",
        "src=/,target=/x",
        "source=a/..,target=/x",
        "source=a,src=,target=/x",
        "source=$NONE,target=/x",
    ],
)
def test_a_bind_mount_of_the_root_is_everything(mount: str):
    assert everything(f"RUN --mount={mount} x") == f"Dockerfile:2: RUN --mount={mount} takes the whole context"


def test_a_mount_that_cannot_be_read_is_everything():
    assert everything("RUN --mount='source=a\"b\"' x").startswith('Dockerfile:2: --mount=source=a"b" cannot be read')
    assert everything("RUN --mount=source='${X' x").startswith("Dockerfile:2: --mount=source=${X cannot be read")


def test_the_escape_directive_counts_and_check_does_not():
    assert paths("# escape=`\n# check=error=true\nFROM scratch\nCOPY a\\b `\n c`$x /") == ["a\\b", "c$x"]


def test_what_must_exist():
    """A literal source whose variables all have a value; of a mount one without variables."""
    found = use(
        "FROM scratch\nARG A=a\nCOPY $A ${B}b c* /\nADD d github.com/e <<F /\nF\n"
        "RUN --mount=source=g,target=/g --mount=source=$A/h,target=/h x"
    )

    assert [source.path for source in found.sources if source.required] == ["a", "d", "github.com/e", "g"]


def test_lines_and_words_are_those_of_the_file():
    text = "FROM scratch\nENV A=a\nCOPY \\\n  $A \\\n  b/ /\n"

    assert [(source.line, source.text) for source in use(text).sources] == [(3, "$A"), (3, "b/")]


def test_nothing_of_a_folder_that_is_copied_depends_on_its_own_mode():
    """Without `--parents` BuildKit copies its contents and makes the folder itself."""
    for source in use("FROM scratch\nCOPY a b* /x/").sources:
        assert (source.own_mode, source.parents) == (False, False)


WORDS = st.lists(
    st.sampled_from(["a", "b*", "..", ".", "$A", "[c", "\\", "/", "!", "'d'", "?", "]", "**"]), min_size=1, max_size=5
)


@given(WORDS, st.sampled_from(["COPY", "ADD", "COPY --parents", "RUN --mount=source="]))
def test_no_source_is_the_root_or_leaves_the_context(words: list[str], instruction: str):
    """Whatever is written: a clean path, or everything."""
    word = "".join(words)
    line = f"{instruction}{word},target=/x y" if instruction.startswith("RUN") else f"{instruction} {word} /x/"

    found = use(f"FROM scratch\nENV A=e/f\n{line}\n")

    assert found.everything or found.sources
    for source in found.sources:
        assert source.path
        assert not {"", ".", ".."} & set(source.path.split("/"))
