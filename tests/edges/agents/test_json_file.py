"""A file with a JSON object is whole or as none, whoever writes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents.base.json_file import read_object, write_object


@pytest.mark.parametrize("content", [None, b"", b'{"a":', b"[]", b"1", b"null", b"\xff"])
def test_what_is_no_object_is_an_empty_one(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert read_object(tmp_path / "file") == {}


def test_of_many_writers_one_is_the_last(tmp_path: Path):
    """Each reader gets the object of one of them, and nothing else is left."""
    path = tmp_path / "file"
    write_object(path, {"name": "x" * 10_000})

    def work(number: int) -> int:
        write_object(path, {"name": f"{number}" * 10_000})
        return len(set(read_object(path)["name"]))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, [*range(10)] * 10)) == {1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_what_there_was(tmp_path: Path):
    write_object(tmp_path / "file", {"a": 1})
    with pytest.raises(TypeError):
        write_object(tmp_path / "file", {"a": object()})
    assert read_object(tmp_path / "file") == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1
