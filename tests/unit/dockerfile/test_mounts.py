"""The value of `--mount` is read as Go's encoding/csv reads it."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.dockerfile.mounts import MountError, settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,source=a,target=/b", {"type": "bind", "source": "a", "target": "/b"}),
        ("TYPE=cache,Target=/b", {"type": "cache", "target": "/b"}),
        ("src=a,dst=/b", {"source": "a", "target": "/b"}),
        ("destination=/b,rw", {"target": "/b", "rw": ""}),
        ("source=a,src=b", {"source": "b"}),
        ("from=a,FROM=", {"from": ""}),
        ('type=bind,"from=alpine",target=/e', {"type": "bind", "from": "alpine", "target": "/e"}),
        ('"source=a,b",target=/e', {"source": "a,b", "target": "/e"}),
        ('"source=a""b"', {"source": 'a"b'}),
        ("source=a=b", {"source": "a=b"}),
        ("", {"": ""}),
        ("a=,", {"a": "", "": ""}),
    ],
)
def test_fields(text: str, expected: dict[str, str]):
    """Any case, other names of a key, quotes, and the last of several."""
    assert expected == {key: setting.value for key, setting in settings(text).items()}


@pytest.mark.parametrize("text", ['from="alpine"', '"from=alpine', '"from=a"b', 'a"', '"a" ,b'])
def test_what_is_no_csv(text: str):
    """Go's reader has no lazy quotes: a quote is the first of a field or doubled."""
    with pytest.raises(MountError):
        settings(text)


def test_the_place_of_a_value_excludes_its_quotes():
    text = 'type=bind,"from=alpine",target=/e'
    found = settings(text)

    assert text[found["from"].start : found["from"].end] == "alpine"
    assert text[found["target"].start : found["target"].end] == "/e"


@given(st.lists(st.text('ab=,"é /', max_size=6), min_size=1, max_size=4))
def test_what_is_written_as_csv_is_read_back(fields: list[str]):
    """Written by another writer of the same format."""
    line = io.StringIO()
    csv.writer(line, lineterminator="", quoting=csv.QUOTE_ALL).writerow(fields)

    expected = {}
    for key, _, value in (field.partition("=") for field in fields):
        expected[key.lower()] = value
    assert expected == {key: setting.value for key, setting in settings(line.getvalue()).items()}
