"""Content on disk, by digest: what is read back is what was written, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.image.descriptors import DOCKER_MANIFEST, OCI_INDEX, Manifest, sha256
from coordinator.run.inputs import content_cache
from coordinator.run.inputs.content_cache import ContentCache


def content(raw: bytes, media_type: str = "") -> Manifest:
    return Manifest(raw=raw, media_type=media_type, digest=sha256(raw))


def path(state: Path, kept: Manifest) -> Path:
    return state / "base-configs" / kept.digest.removeprefix("sha256:")


@given(raw=st.binary(), media_type=st.sampled_from(["", OCI_INDEX, DOCKER_MANIFEST]))
def test_content_comes_back(tmp_path_factory, raw, media_type):
    """Whatever the bytes are, with the media type that the registry gave."""
    cache = ContentCache(tmp_path_factory.mktemp("cache"))
    kept = content(raw, media_type)

    assert cache.get(kept.digest) is None
    cache.put(kept)

    assert cache.get(kept.digest) == kept


@pytest.mark.parametrize("found", [b"", b"\n", b"\nother", b"application/x\nraw", b"\xff\nraw", b"raw"])
def test_a_damaged_file_is_ignored_and_replaced(tmp_path, found):
    """A power cut or a full disk must not change what a build takes."""
    cache, kept = ContentCache(tmp_path), content(b"raw")
    cache.put(kept)
    path(tmp_path, kept).write_bytes(found)

    assert cache.get(kept.digest) is None
    cache.put(kept)
    assert cache.get(kept.digest) == kept


def test_a_disk_that_refuses_costs_no_build(tmp_path):
    """The folder cannot be made: nothing is kept, and nothing fails."""
    (tmp_path / "base-configs").write_text("a file in the way")
    cache, kept = ContentCache(tmp_path), content(b"raw")

    cache.put(kept)

    assert cache.get(kept.digest) is None


def test_the_folder_is_bounded_and_private(tmp_path):
    """The oldest files go, also what interrupted writes left; one run looks for them once."""
    cache = ContentCache(tmp_path)
    big = [content(bytes([number]) * (12 * 2**20)) for number in range(3)]
    cache.put(big[0])
    left = path(tmp_path, big[0]).with_name(".new-0")
    left.write_bytes(b"half")
    for age, old in enumerate((left, path(tmp_path, big[0]))):
        os.utime(old, (age, age))

    for kept in big[1:]:
        cache.put(kept)
    assert left.exists()
    cache = ContentCache(tmp_path)
    cache.put(content(b"small"))

    assert [cache.get(kept.digest) is not None for kept in big] == [False, True, True]
    assert not left.exists()
    assert (tmp_path / "base-configs").stat().st_mode & 0o777 == 0o700
    assert content_cache.MOST_BYTES == 32 * 2**20
