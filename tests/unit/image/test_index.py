"""Children become one index, canonically; an index becomes what each client takes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.descriptors import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    read_descriptor,
    read_json,
    read_manifest,
    sha256,
)
from coordinator.domain.image.index import Child, IndexImages, assemble, parse_index, resolve, runs_on, with_platform
from coordinator.domain.image.platforms import Platform, parse
from coordinator.domain.secrets import Credential, Secret
from coordinator.errors import RegistryError
from tests.services.paths import CASES

GOLDEN = CASES / "index"
PLATFORMS = (
    "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5", "linux/386", "linux/riscv64",
    "linux/s390x", "linux/ppc64le", "linux/amd64/v3", "linux/loong64", "windows/amd64",
)  # fmt: skip


def digest(seed: object) -> str:
    return sha256(str(seed).encode())


def descriptor(seed: object, media_type: str = OCI_MANIFEST, **extra: object) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest(seed), size=500, extra=extra)


def attestation(subject: str, seed: object = "attestation") -> Descriptor:
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject}
    return descriptor(f"{seed} of {subject}", annotations=notes)


def child(name: str, media_type: str = OCI_MANIFEST, *attestations: Descriptor, **extra: object) -> Child:
    return Child(platform=parse(name), descriptor=descriptor(name, media_type, **extra), attestations=attestations)


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_golden(case: str) -> None:
    """The bytes of an index are part of the contract: what was published once is published again as the same digest."""
    given_children = json.loads((GOLDEN / case / "children.json").read_bytes())
    children = [
        Child(
            platform=parse(one["platform"]),
            descriptor=read_descriptor(one["descriptor"], case),
            attestations=tuple(read_descriptor(entry, case) for entry in one["attestations"]),
        )
        for one in given_children
    ]

    index = assemble(children)

    assert (GOLDEN / case / "index.json").read_bytes() == index.raw
    assert sha256(index.raw) == index.digest
    assert json.loads(index.raw)["mediaType"] == index.media_type


@given(st.data())
def test_order_does_not_matter(data: st.DataObject) -> None:
    """The same children give the same bytes in whatever order they and their attestations come."""
    names = data.draw(st.lists(st.sampled_from(PLATFORMS), min_size=1, unique=True))
    media_type = data.draw(st.sampled_from([OCI_MANIFEST, DOCKER_MANIFEST]))
    attested = data.draw(st.integers(0, 2))
    children = [
        child(name, media_type, *(attestation(digest(name), seed) for seed in range(attested))) for name in names
    ]
    shuffled = [
        Child(
            platform=one.platform,
            descriptor=one.descriptor,
            attestations=tuple(data.draw(st.permutations(one.attestations))),
        )
        for one in data.draw(st.permutations(children))
    ]

    assert assemble(children) == assemble(shuffled)


@given(st.lists(st.sampled_from(PLATFORMS), min_size=1, unique=True))
def test_every_child_is_found_again(names: list[str]) -> None:
    """Each platform's client takes exactly its own child from the assembled index."""
    index = assemble(child(name, OCI_MANIFEST, attestation(digest(name))) for name in names)

    entries = parse_index(index.raw, "index")

    for name in names:
        taken = resolve(entries, parse(name))
        assert taken is not None
        assert digest(name) == taken.digest
    assert [False] * len(names) + [True] * len(names) == [bool(entry.subject) for entry in entries]


def test_docker_list_only_when_all_of_it_is_docker() -> None:
    """A Docker list holds Docker children alone: no OCI child, no attestation, no annotation."""
    docker = child("linux/amd64", DOCKER_MANIFEST)
    plain = child("linux/arm64", DOCKER_MANIFEST)
    attested = child("linux/arm64", DOCKER_MANIFEST, attestation(digest("linux/arm64")))
    annotated = child("linux/arm64", DOCKER_MANIFEST, annotations={"a": "b"})

    assert assemble([docker, plain]).media_type == DOCKER_LIST
    for other in (child("linux/arm64"), attested, annotated):
        assert assemble([docker, other]).media_type == OCI_INDEX


def test_descriptor_says_the_platform() -> None:
    """32-bit Arm always says its variant; what a descriptor's platform said besides stays in it."""
    kept = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}
    index = assemble([child("linux/arm"), child("windows/amd64", platform=kept)])

    platforms = [entry["platform"] for entry in json.loads(index.raw)["manifests"]]

    assert platforms == [
        {"architecture": "amd64", "os": "windows", "os.version": "10.0.1"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
    ]


@pytest.mark.parametrize(
    ("children", "code"),
    [
        ([], "empty"),
        ([child("linux/arm64"), child("linux/arm64/v8")], "duplicate"),
        (
            [
                Child(platform=parse("linux/arm/v6"), descriptor=descriptor("same")),
                Child(platform=parse("linux/arm/v7"), descriptor=descriptor("same")),
            ],
            "duplicate",
        ),
        ([child("linux/arm64", platform={"os": "linux", "architecture": "amd64"})], "mismatch"),
        ([child("linux/arm64", OCI_MANIFEST, attestation(digest("other")))], "mismatch"),
    ],
)
def test_refused(children: list[Child], code: str) -> None:
    """What would make a tag lie is refused: two images for one platform, another platform, another's attestation."""
    with pytest.raises(RegistryError) as refused:
        assemble(children)

    assert code == refused.value.code


def test_unknown_members_survive() -> None:
    """An entry's unknown members come through parsing and assembling with their values."""
    entry = {
        "mediaType": OCI_MANIFEST, "digest": digest(1), "size": 3, "artifactType": "x/y",
        "urls": ["https://example.org"], "data": "e30=", "x-new": {"b": [1, None, 1.5], "a": "ü😀"},
        "annotations": {"z": "1", "a": "2"},
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8", "x": [1]},
    }  # fmt: skip
    raw = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()

    (parsed,) = parse_index(raw, "index")
    again = json.loads(assemble([Child(platform=parse("linux/arm64"), descriptor=parsed)]).raw)["manifests"][0]

    assert entry == parsed.to_json()
    assert entry | {"platform": {"os": "linux", "architecture": "arm64", "x": [1]}} == again


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", '{"manifests": 3}', '{"manifests": [3]}', '{"manifests": [{"size": 1}]}',
        f'{{"manifests": [{{"digest": "{digest(1)}"}}]}}',
        f'{{"manifests": [{{"digest": "{digest(1)}", "size": -1}}]}}',
        f'{{"manifests": [{{"digest": "{digest(1)}", "size": 1.0}}]}}',
        f'{{"manifests": [{{"digest": "{digest(1)}", "size": true}}]}}',
        f'{{"manifests": [{{"digest": "{digest(1)}", "size": 1, "mediaType": 5}}]}}',
        '{"manifests": [{"digest": "sha256:../../evil", "size": 1}]}', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}',
        '\ufeff{"manifests": []}', "[" * 100_000,
    ],
)  # fmt: skip
def test_malformed(text: str) -> None:
    """A document that readers could read differently, or that is none, is refused with its name."""
    with pytest.raises(RegistryError, match="app:1 is malformed") as refused:
        parse_index(text.encode(), "app:1")

    assert refused.value.code == "malformed"


@pytest.mark.parametrize("text", ['{"manifests": null}', '{"manifests": []}', "{}"])
def test_empty_index(text: str) -> None:
    """An index without entries is empty, however that is written."""
    assert parse_index(text.encode(), "app:1") == ()


def entries(*platforms: str) -> list[Descriptor]:
    found = []
    for position, text in enumerate(platforms):
        words = text.split("/")
        said = dict(zip(("os", "architecture", "variant"), words, strict=False))
        found.append(descriptor(position, platform=said))
    return found


@pytest.mark.parametrize(
    ("listed", "client", "taken"),
    [
        (("linux/arm/v6", "linux/arm/v7"), "linux/arm/v7", 1),
        (("linux/arm/v7", "linux/arm/v6"), "linux/arm/v6", 1),
        (("linux/arm/v5", "linux/arm/v6"), "linux/arm/v7", 1),
        (("linux/arm/v7",), "linux/arm/v6", None),
        (("linux/arm", "linux/arm/v6"), "linux/arm/v7", 0),
        (("linux/arm", "linux/arm/v6"), "linux/arm/v6", 1),
        (("linux/arm64", "linux/arm64/v8"), "linux/arm64", 0),
        (("linux/arm64/v9", "linux/arm64"), "linux/arm64", 1),
        (("linux/arm64",), "linux/arm64/v9", 0),
        (("linux/amd64", "linux/amd64/v3"), "linux/amd64/v2", 0),
        (("linux/amd64", "linux/amd64/v3"), "linux/amd64/v4", 1),
        (("linux/arm/v7",), "linux/arm64", None),
        (("linux/386",), "linux/amd64", None),
        (("unknown/unknown", "linux/amd64"), "linux/amd64", 1),
        (("linux/ppc64le/power9",), "linux/ppc64le", None),
        (("linux/ppc64le",), "linux/ppc64le/power9", None),
        (("windows/amd64",), "linux/amd64", None),
        ((), "linux/amd64", None),
    ],
)
def test_resolve(listed: tuple[str, ...], client: str, taken: int | None) -> None:
    """A client takes the highest variant it can run, the first of equals, and never an attestation."""
    found = resolve(entries(*listed), parse(client))

    assert (None if taken is None else digest(taken)) == (found and found.digest)


@given(st.lists(st.sampled_from(PLATFORMS)), st.sampled_from(PLATFORMS))
def test_resolve_prefers_itself(listed: list[str], client: str) -> None:
    """Where an index has exactly the client's platform, its first such entry is taken."""
    found = resolve(entries(*listed), parse(client))

    if client in listed:
        assert found is not None
        assert digest(listed.index(client)) == found.digest


@given(st.lists(st.sampled_from(PLATFORMS)), st.lists(st.sampled_from(PLATFORMS)), st.sampled_from(PLATFORMS))
def test_listed_images_come_before_unlisted(listed: list[str], unlisted: list[str], client: str) -> None:
    """containerd sorts entries without a platform last; of them the first that matches is taken."""
    both = entries(*listed, *unlisted)
    images = IndexImages(listed=tuple(both[: len(listed)]), unlisted=tuple(both[len(listed) :]))

    found = images.resolve(parse(client))

    matching = [entry for entry in images.unlisted if entry.platform and runs_on(entry.platform, parse(client))]
    assert found == (resolve(images.listed, parse(client)) or (matching[0] if matching else None))
    assert set(images.platforms) == {parse(name) for name in (*listed, *unlisted)}
    assert len(images.platforms) == len(set(images.platforms))


@given(st.sampled_from(PLATFORMS), st.sampled_from(PLATFORMS))
def test_runs_on_is_what_resolve_takes(image: str, client: str) -> None:
    """One image is taken exactly where it runs."""
    assert runs_on(parse(image), parse(client)) == (resolve(entries(image), parse(client)) is not None)


@given(st.sampled_from(PLATFORMS))
def test_with_platform(name: str) -> None:
    """The platform is replaced, everything else stays."""
    entry = with_platform(descriptor("x", platform={"os": "a", "architecture": "b"}, urls=["u"]), parse(name))

    assert entry.platform == parse(name)
    assert entry.extra["urls"] == ["u"]


@pytest.mark.parametrize(
    ("document", "header", "expected"),
    [
        ({"mediaType": OCI_INDEX, "manifests": []}, OCI_INDEX, OCI_INDEX),
        ({"mediaType": OCI_INDEX, "manifests": []}, f"{OCI_INDEX}; charset=utf-8", OCI_INDEX),
        ({"mediaType": DOCKER_LIST, "manifests": []}, "application/json", DOCKER_LIST),
        ({"config": {}}, DOCKER_MANIFEST, DOCKER_MANIFEST),
        ({"config": {}}, "", OCI_MANIFEST),
        ({"manifests": []}, "text/plain", OCI_INDEX),
    ],
)
def test_media_type(document: dict[str, object], header: str, expected: str) -> None:
    """The media type is the body's own, else the header's, else what the body looks like."""
    assert expected == read_manifest(json.dumps(document).encode(), header, "app:1").media_type


@pytest.mark.parametrize(
    ("document", "header", "code"),
    [
        ({"mediaType": OCI_INDEX}, OCI_MANIFEST, "malformed"),
        ({}, "", "malformed"),
        ({"mediaType": ["x"]}, "", "malformed"),
        ({"mediaType": "application/vnd.example+json"}, "", "malformed"),
        ({"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema1"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "schema1"),
    ],
)
def test_media_type_refused(document: dict[str, object], header: str, code: str) -> None:
    """Header and body that disagree, no type at all, and Docker's schema 1 are refused."""
    with pytest.raises(RegistryError) as refused:
        read_manifest(json.dumps(document).encode(), header, "app:1")

    assert code == refused.value.code


@given(st.text(min_size=4))
def test_secrets_stay_hidden(text: str) -> None:
    """A secret prints `[REDACTED]` wherever it ends up, and gives its text to `reveal` alone."""
    secret = Secret(text)
    credential = Credential(username="ann", password=secret)

    assert {"[REDACTED]"} == {str(secret), repr(secret), f"{secret}", f"{secret:s}"}
    tokens = "identity_token=[REDACTED], registry_token=[REDACTED]"
    assert repr(credential) == f"Credential(username='ann', password=[REDACTED], {tokens})"
    assert text == secret.reveal()


def test_read_json_keeps_large_numbers() -> None:
    """Numbers beyond a float's precision come through as they were."""
    assert read_json(f'{{"n": {2**70}}}'.encode(), "app:1") == {"n": 2**70}


def test_platform_of_a_descriptor() -> None:
    """A descriptor's platform is normalised; none and `unknown` are no platform."""
    assert Platform("linux", "arm", "v7") == descriptor(1, platform={"os": "Linux", "architecture": "arm"}).platform
    for said in (None, {}, {"os": "linux"}, {"os": "unknown", "architecture": "unknown"}, 3):
        assert descriptor(1, platform=said).platform is None


def test_members_are_written_in_the_order_of_go_s_image_spec() -> None:
    """As every client that writes a descriptor with it; members that it does not know come last, by name."""
    members = ["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType", "a", "z"]
    extra = {name: name for name in sorted(members[3:], reverse=True)}

    assert list(descriptor(1, **extra).to_json()) == members


def test_a_manifest_is_described_by_its_own_bytes() -> None:
    """And an assembled index is a manifest like any other."""
    image = read_manifest(b'{"config": {}}', DOCKER_MANIFEST, "app:1")
    index = assemble([Child(platform=parse("linux/arm64"), descriptor=descriptor(1))])

    assert image.descriptor == Descriptor(media_type=DOCKER_MANIFEST, digest=image.digest, size=14)
    assert (image.is_index, index.manifest.is_index) == (False, True)
    assert index.manifest.digest == sha256(index.manifest.raw) == index.digest
