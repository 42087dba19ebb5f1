"""The agent's reading of folder objects, held against the file that both ends must read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from agents.base.errors import AgentError
from agents.context.tree_objects import Below, File, Folder, Link, parse
from tests.edges.agents.transfer_bed import Scripted, arrive
from tests.services.paths import CASES

WIRE = CASES / "wire"
LINES = (WIRE / "folders.jsonl").read_bytes().splitlines()


def test_the_golden_objects_are_read():
    """The root, and the folder whose digest it names."""
    root, src = LINES

    assert parse(root) == Folder(
        files=[File(b"zero", 0o644, 7, 0, hashlib.sha256(b"").hexdigest())],
        links=[Link("ümlaut".encode(), 1, b"not\xffutf8")],
        below=[Below(b"src", 0o755, 1763930000123456789, hashlib.sha256(src).hexdigest())],
        parts=[],
    )
    assert parse(src).files == [File(b"run", 0o755, 7, 10, hashlib.sha256(b"#!/bin/sh\n").hexdigest())]


def test_the_golden_hard_links_are_read():
    """Names of one file have one group; the same content elsewhere has none."""
    root, src = map(parse, (WIRE / "hard_links.jsonl").read_bytes().splitlines())

    assert [(file.name, file.hard_link) for file in (*root.files, *src.files)] == [
        (b"a", b"a"),
        (b"c", b""),
        (b"b\xff", b"a"),
    ]
    assert len({file.digest for file in (*root.files, *src.files)}) == 1


@pytest.mark.parametrize("group", [[""], [1], ["a", "b"], ["a\0"]])
def test_a_malformed_hard_link_is_refused(group: list[object]):
    """The group is one path."""
    entry = ["file", "a", 0o644, 7, 0, hashlib.sha256(b"").hexdigest(), *group]

    with pytest.raises(AgentError, match="refused in the context"):
        parse(json.dumps({"entries": [entry]}).encode())


def test_a_large_folder_is_read():
    """Its parts are objects of the same folder."""
    parts = [hashlib.sha256(line).hexdigest() for line in LINES]
    data = b'{"parts":["%b","%b"]}' % tuple(part.encode() for part in parts)

    assert parse(data) == Folder([], [], [], parts)


def test_the_golden_transfer_is_had(tmp_path: Path):
    """The agent asks, and ends, by the golden lines."""
    opening, *wanted = map(json.loads, (WIRE / "context.jsonl").read_bytes().splitlines())
    there = Scripted()
    for data in (*LINES, b"", b"#!/bin/sh\n"):
        there.content(data)

    received = arrive(there, opening["root"], opening["entries"], tmp_path / "state", tmp_path / "context")

    assert [*there.asked, {"ok": received._asdict()}] == wanted
