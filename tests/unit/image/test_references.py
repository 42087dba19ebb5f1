"""References are read as `docker` reads them, and printing one loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.references import Reference, is_digest, parse
from coordinator.errors import UsageError

DIGEST = "sha256:" + "0a" * 32
WORD = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?", fullmatch=True)
REGISTRY = st.sampled_from(["docker.io", "localhost", "localhost:5000", "nas.lan:5000", "ghcr.io", "[::1]:5000", "NAS"])
REFERENCES = st.builds(
    Reference,
    REGISTRY,
    st.lists(st.one_of(WORD, st.sampled_from(["library", "localhost", "a.b"])), min_size=2, max_size=4).map("/".join),
    st.one_of(st.just(""), WORD),
    st.sampled_from(["", DIGEST]),
)


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("alpine", "docker.io", "library/alpine", ""),
        ("alpine:3.20", "docker.io", "library/alpine", "3.20"),
        ("me/app", "docker.io", "me/app", ""),
        ("docker.io/alpine", "docker.io", "library/alpine", ""),
        ("docker.io/library/alpine", "docker.io", "library/alpine", ""),
        ("index.docker.io/me/app", "docker.io", "me/app", ""),
        ("registry-1.docker.io/me/app", "docker.io", "me/app", ""),
        ("localhost/foo", "localhost", "foo", ""),
        ("localhost:5000/foo", "localhost:5000", "foo", ""),
        ("nas.lan:5000/team/app:1.0", "nas.lan:5000", "team/app", "1.0"),
        ("[::1]:5000/x", "[::1]:5000", "x", ""),
        ("[::1]/x", "[::1]", "x", ""),
        ("NAS/app", "NAS", "app", ""),
        ("192.168.1.2:5000/a/b/c:T-1_x.y", "192.168.1.2:5000", "a/b/c", "T-1_x.y"),
        ("nas.lan:5000", "docker.io", "library/nas.lan", "5000"),
        ("a__b/c-d.e_f--g", "docker.io", "a__b/c-d.e_f--g", ""),
        (" ghcr.io/me/app ", "ghcr.io", "me/app", ""),
        (f"app:{'t' * 128}", "docker.io", "library/app", "t" * 128),
    ],
)
def test_references_are_read_as_docker_reads_them(text, registry, repository, tag):
    """The part before the first slash is a registry only where it looks like a host; Docker Hub is the default."""
    assert parse(text) == Reference(registry, repository, tag)


def test_a_digest_may_follow_a_tag():
    """`name:tag@digest` keeps both, and the digest is what is asked for."""
    reference = parse(f"ghcr.io/me/app:1.0@{DIGEST}")
    assert (reference.tag, reference.digest, reference.target) == ("1.0", DIGEST, DIGEST)
    assert str(reference) == f"ghcr.io/me/app:1.0@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no repository is named"),
        (":1.0", "no repository is named"),
        ("nas.lan:5000/", "no repository is named"),
        ("docker.io/", "no repository is named"),
        ("App", "invalid repository 'App'"),
        ("nas.lan/Team/app", "invalid repository 'Team/app'"),
        ("a//b", "invalid repository"),
        ("a/b/", "invalid repository"),
        ("/a", "invalid repository"),
        ("a___b", "invalid repository"),
        ("a..b/c:1", "invalid registry"),
        ("-a", "invalid repository"),
        ("a b", "invalid repository"),
        ("a:b:c", "invalid repository 'a:b'"),
        ("team/nas:5000/app", "invalid repository"),
        ("аpp", "invalid repository"),  # noqa: RUF001 - the first letter is Cyrillic
        ("app:", "the tag is empty"),
        ("app:a b", "invalid tag 'a b'"),
        ("app:-x", "invalid tag"),
        (f"app:{'t' * 129}", "invalid tag"),
        ("app@", "is not a sha256 digest"),
        ("app:1@sha256:short", "'sha256:short' is not a sha256 digest"),
        (f"app@sha256:{'0A' * 32}", "is not a sha256 digest"),
        (f"app@sha512:{'0a' * 64}", "is not a sha256 digest"),
        (f"app@{DIGEST}\u0660", "is not a sha256 digest"),
        ("https://nas.lan/app", "a reference has no scheme"),
        ("nas.lan:x/app", "invalid registry 'nas.lan:x'"),
        ("nas.lan:0/app", "invalid registry"),
        ("nas.lan:65536/app", "invalid registry"),
        ("nas.lan:\u0665000/app", "invalid registry"),
        ("nas..lan/app", "invalid registry"),
        ("nas_1.lan/app", "invalid registry"),
        ("0a" * 32, "this is an image id"),
        (f"nas.lan/{'a' * 256}", "longer than 255"),
    ],
)  # fmt: skip
def test_a_bad_reference_says_which_part_is_wrong(text, says):
    """What docker refuses is refused, with the part named."""
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert says in refused.value.message
    assert refused.value.code == "reference"


def test_hints_show_what_to_write():
    """A scheme and capital letters, the two usual slips, are answered with the right spelling or its rule."""
    with pytest.raises(UsageError) as scheme:
        parse("http://nas.lan:5000/app:1")
    with pytest.raises(UsageError) as capitals:
        parse("ghcr.io/Me/app")
    assert scheme.value.hint == "try nas.lan:5000/app:1"
    assert capitals.value.hint == "write the repository in lower case"


@given(REFERENCES)
def test_printing_loses_nothing(reference):
    """Every reference reads back from its text as the same value; runs are stored this way."""
    assert parse(str(reference)) == reference


@given(st.text())
def test_any_text_is_a_reference_or_a_usage_error(text):
    """Nothing a person types ends in another error, and what is accepted reads back."""
    try:
        reference = parse(text)
    except UsageError:
        return
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("repository", "text"),
    [
        ("library/alpine", "alpine"),
        ("me/app", "me/app"),
        ("library/team/app", "library/team/app"),
        ("localhost/app", "docker.io/localhost/app"),
        ("library/" + "0a" * 32, "library/" + "0a" * 32),
    ],
)
def test_docker_hub_is_left_out_where_that_is_clear(repository, text):
    """Official images lose `library/`; what would be read as another registry keeps its own."""
    assert str(Reference("docker.io", repository)) == text
    assert Reference("docker.io", repository).name == f"docker.io/{repository}"


def test_a_tag_and_a_digest_replace_each_other():
    """`with_tag` drops the digest, `with_digest` the tag; the tag asked for by default is latest."""
    reference = parse("nas.lan:5000/app:1")
    assert str(reference.with_digest(DIGEST)) == f"nas.lan:5000/app@{DIGEST}"
    assert str(reference.with_digest(DIGEST).with_tag("2")) == "nas.lan:5000/app:2"
    assert parse("app").target == "latest"


def test_a_digest_is_whole_and_lower_case():
    """Only the canonical spelling is a digest."""
    assert is_digest(DIGEST)
    assert not any(map(is_digest, (DIGEST.upper(), DIGEST[:-1], f"{DIGEST}\n", "sha512:" + "0" * 128, "")))
