"""Archives of images, read as streams: both layouts, however they are chopped, and those that lie."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.descriptors import (
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)
from coordinator.domain.image.index import parse_index
from coordinator.domain.image.platforms import parse
from coordinator.errors import ArchloomError, LostError, RegistryError
from coordinator.image.archive_import import import_archive
from tests.edges.image.archive_bed import (
    BARE,
    GZIPPED,
    Members,
    MemorySink,
    chopped,
    config,
    docker,
    layer,
    link,
    oci,
    sha256,
    tar,
)
from tests.services.commands import run_limited
from tests.services.missing import missing

ARM64 = parse("linux/arm64")
ONE, TWO, EMPTY = layer(a=b"a" * 5000), layer(b=bytes(range(256)) * 12), bytes(1024)


async def carried(members: Members, image_id: str, destination: MemorySink, at=(), cut: int = 0) -> Manifest:
    data = tar(members)
    data = data[:cut] if cut else data
    folder = Path(tempfile.gettempdir())
    return await import_archive(
        chopped(data, at), destination, folder, image_id=image_id, wanted=ARM64, what="the archive"
    )


def layers(manifest: Manifest) -> list[dict[str, object]]:
    return json.loads(manifest.raw)["layers"]


async def test_a_docker_archive_becomes_what_its_engine_would_push():
    """The config is as it was, layers are gzipped, an empty and a repeated one among them."""
    destination, all_layers = MemorySink(), (ONE, EMPTY, TWO, ONE)

    manifest = await carried(docker(*all_layers), sha256(config(*all_layers)), destination)

    assert manifest.media_type == DOCKER_MANIFEST
    assert destination.blobs[json.loads(manifest.raw)["config"]["digest"]] == config(*all_layers)
    assert [gzip.decompress(destination.blobs[one["digest"]]) for one in layers(manifest)] == list(all_layers)
    assert destination.manifests == {manifest.digest: manifest}


@pytest.mark.parametrize("media_type", [GZIPPED, BARE])
async def test_an_oci_layout_keeps_its_manifest_unless_layers_are_bare(media_type):
    """Byte for byte where that can be; bare layers are gzipped under a manifest of ours with the same config."""
    destination, made = MemorySink(), oci(ONE, EMPTY, TWO, media_type=media_type)

    manifest = await carried(made.members, made.image, destination)

    assert (manifest.digest == made.image) == (media_type == GZIPPED)
    assert manifest.media_type == OCI_MANIFEST
    assert json.loads(manifest.raw)["config"]["digest"] == made.config
    assert [gzip.decompress(destination.blobs[one["digest"]]) for one in layers(manifest)] == [ONE, EMPTY, TWO]
    assert {one["mediaType"] for one in layers(manifest)} == {GZIPPED}


async def test_attestations_follow_their_image():
    """What an index in an index holds: the image, what speaks of it, and nothing of another platform."""
    destination, made = MemorySink(), oci(ONE, attested=True, also=[b'{"schemaVersion": 2}'])

    index = await carried(made.members, made.top, destination)

    assert index.media_type == OCI_INDEX
    image, spoken = parse_index(index.raw, "")
    assert (image.digest, spoken.subject) == (made.image, made.image)
    assert {image.digest, spoken.digest, index.digest} == set(destination.manifests)


@pytest.mark.parametrize("made", [docker(ONE, TWO, ONE), oci(ONE, TWO).members, oci(ONE, TWO, media_type=BARE).members])
async def test_the_second_time_nothing_is_uploaded(made):
    """The same image again gives the same manifest, and costs no upload, also to another process."""
    found = config(ONE, TWO, ONE) if "manifest.json" in made else config(ONE, TWO)
    destination = MemorySink()
    first = await carried(made, sha256(found), destination)
    uploads = destination.uploads

    assert await carried(made, sha256(found), destination) == first
    destination.layers.clear()
    assert await carried(made, sha256(found), destination) == first
    assert destination.uploads == uploads


async def test_a_layer_the_repository_can_get_is_not_uploaded():
    """A base's layer is shared with the base as its registry has it, in whatever bytes that is."""
    theirs = gzip.compress(ONE, 1)
    base = Descriptor(media_type=GZIPPED, digest=sha256(theirs), size=len(theirs))
    for made in (docker(ONE, TWO), oci(ONE, TWO, media_type=BARE).members):
        destination = MemorySink(blobs={base.digest: theirs}, layers={sha256(ONE): base})

        manifest = await carried(made, sha256(config(ONE, TWO)), destination)

        assert layers(manifest)[0]["digest"] == base.digest
        assert destination.uploads == 2


SMALL = (layer(a=b"a"), layer(b=b"b"))


@given(st.booleans(), st.lists(st.integers(0, 15_000), max_size=30))
def test_chopping_changes_nothing(is_docker, places):
    """The same archive gives the same manifest and blobs however its bytes arrive."""
    made = docker(*SMALL) if is_docker else oci(*SMALL, attested=True).members
    whole, pieces = MemorySink(), MemorySink()
    image_id = sha256(config(*SMALL))

    async def both() -> bool:
        return await carried(made, image_id, whole) == await carried(made, image_id, pieces, places)

    assert asyncio.run(both())
    assert (whole.blobs, whole.manifests) == (pieces.blobs, pieces.manifests)


@given(st.lists(st.integers(0, 15_000), max_size=5))
def test_what_follows_the_end_is_refused(places):
    """However it arrives; padding is no such thing."""
    made, image_id = tar(docker(*SMALL)), sha256(config(*SMALL))
    folder = Path(tempfile.gettempdir())

    async def read(data: bytes) -> Manifest:
        chunks = chopped(data, [*places, len(made)])
        return await import_archive(chunks, MemorySink(), folder, image_id=image_id, wanted=ARM64, what="the archive")

    assert asyncio.run(read(made + bytes(5000)))
    with pytest.raises(RegistryError, match="follows its end"):
        asyncio.run(read(made + bytes(700) + b"x"))


@given(st.booleans(), st.integers(1, 20_000))
def test_a_cut_is_never_an_end(is_docker, cut):
    """However much of it came: without its end it is lost, and no manifest is there."""
    made = docker(*SMALL) if is_docker else oci(*SMALL).members
    destination, size = MemorySink(), len(tar(made))

    with pytest.raises(LostError, match="cut"):
        asyncio.run(carried(made, sha256(config(*SMALL)), destination, cut=min(cut, size - 1)))
    assert not destination.manifests


@given(st.booleans(), st.integers(0, 15_000), st.binary(min_size=1, max_size=64))
def test_whatever_comes_is_an_image_or_an_error(is_docker, place, noise):
    """Bytes that changed on the way never become another image, and never a crash."""
    made = tar(docker(*SMALL) if is_docker else oci(*SMALL).members)
    spoilt = made[:place] + noise + made[place + len(noise) :]
    destination, image_id = MemorySink(), sha256(config(*SMALL))
    folder = Path(tempfile.gettempdir())

    try:
        manifest = asyncio.run(
            import_archive(chopped(spoilt), destination, folder, image_id=image_id, wanted=ARM64, what="the archive")
        )
    except ArchloomError:
        return
    assert json.loads(manifest.raw)["config"]["digest"] == image_id
    found = [gzip.decompress(destination.blobs[str(one["digest"])]) for one in layers(manifest)]
    assert found == list(SMALL)


def without(members: Members, *names: str) -> Members:
    return {name: content for name, content in members.items() if not name.endswith(names)}


def lying() -> dict[str, tuple[Members, str]]:
    made, attested = docker(ONE), oci(ONE, attested=True)
    listed = json.loads(made["manifest.json"])[0]
    blob = f"blobs/sha256/{sha256(gzip.compress(ONE, mtime=0))[7:]}"
    device = link("device", "", tarfile.CHRTYPE)
    return {
        "no config": (without(made, f"{sha256(config(ONE))[7:]}.json"), "json is not in it"),
        "no layer": (without(made, "layer.tar"), "layer.tar is not in it"),
        "no documents": ({"a": b"a"}, "neither index.json nor manifest.json"),
        "nothing": ({}, "neither"),
        "another layer": ({**made, f"{0:064x}/layer.tar": TWO}, "its config says"),
        "two images": ({**made, "manifest.json": json.dumps([listed, listed]).encode()}, "exactly one image"),
        "no list": ({**made, "manifest.json": b"{}"}, "exactly one image"),
        "no JSON": ({**made, "manifest.json": b"["}, "malformed"),
        "huge manifest": ({**made, "manifest.json": b" " * (MAX_MANIFEST_BYTES + 1)}, "more than"),
        "another config": ({**made, "manifest.json": json.dumps([{**listed, "Config": "../x"}]).encode()}, "not in it"),
        "climbs": ({"../a": b"", **made}, "leads out of the archive"),
        "is absolute": ({"/etc/passwd": b"", **made}, "leads out of the archive"),
        "links out": ({"l": link("l", "../../etc/passwd"), **made}, "leads out of the archive"),
        "links out by linkname": ({"l": link("l", "../x", tarfile.LNKTYPE), **made}, "leads out of the archive"),
        "a circle": ({**made, f"{0:064x}/layer.tar": link(f"{0:064x}/layer.tar", "layer.tar")}, "not in it"),
        "a device": ({"device": device, **made}, "not a file"),
        "twice": ({**made, f"{0:064x}/./layer.tar": TWO}, "twice"),
        "a blob of another digest": ({**oci(ONE).members, blob: gzip.compress(TWO)}, "has the digest"),
        "no blob": (without(oci(ONE).members, blob), "is not in it"),
        "no manifest": (without(attested.members, attested.image[7:]), "is not in it"),
    }


@pytest.mark.parametrize("name", lying())
async def test_archives_that_lie_are_refused(name):
    """What is missing, leads outside, or is not what it says: an error that names it, and no manifest."""
    made, says = lying()[name]
    destination = MemorySink()

    with pytest.raises(RegistryError, match=says):
        await carried(made, sha256(config(ONE)), destination)
    assert not destination.manifests


@pytest.mark.parametrize("made", [docker(ONE), oci(ONE).members, oci(ONE, media_type=BARE).members])
async def test_another_image_than_the_engine_s_is_refused(made):
    """The engine's own id is held against what came."""
    with pytest.raises(RegistryError, match=f"expected {sha256(b'')}") as refused:
        await carried(made, sha256(b""), MemorySink())
    assert refused.value.code == "mismatch"


async def test_names_that_do_not_fit_into_a_header():
    """Extended headers of PAX and of GNU tar are read."""
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        made = docker(ONE)
        target = f"{0:064x}/layer.tar"
        long = f"{'deep/' * 40}é/layer.tar"
        listed = json.loads(made["manifest.json"])[0]
        made[long] = link(long, f"{'../' * 41}{target}")
        made["manifest.json"] = json.dumps([{**listed, "Layers": [long]}]).encode()
        destination = MemorySink()

        data = tar(made, form)
        manifest = await import_archive(
            chopped(data),
            destination,
            Path(tempfile.gettempdir()),
            image_id=sha256(config(ONE)),
            wanted=ARM64,
            what="the archive",
        )

        assert len(layers(manifest)) == 1


async def test_a_full_disk_here_is_told_as_one(tmp_path):
    """The layer that does not fit is the error, with the room there is and the way out; nothing is left of it."""
    folder = tmp_path / "small disk"
    noise = layer(a=random.Random(1).randbytes(2 << 20))
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if run_limited(mounted, capture_output=True).returncode:
        missing("the right to mount a small file system")
    try:
        for made in (docker(noise), oci(noise).members):
            with pytest.raises(LostError, match=f"too little space below {folder} on this machine") as lost:
                await import_archive(
                    chopped(tar(made)), MemorySink(), folder, image_id="", wanted=ARM64, what="the archive"
                )
            assert lost.value.code == "spool"
            assert lost.value.hint.startswith(f"make room: df -h '{folder}' shows the disk; or set XDG_STATE_HOME ")
            assert list(folder.iterdir()) == []
    finally:
        run_limited(["umount", "--lazy", folder], check=True)
