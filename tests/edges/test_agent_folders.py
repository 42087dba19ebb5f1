"""The agent's reading of folder objects, held against the file that both ends must read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agents.folders import Below, File, Folder, Link, parse

LINES = (Path(__file__).parents[1] / "cases" / "wire" / "folders.jsonl").read_bytes().splitlines()


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


def test_a_large_folder_is_read():
    """Its parts are objects of the same folder."""
    parts = [hashlib.sha256(line).hexdigest() for line in LINES]
    data = b'{"parts":["%b","%b"]}' % tuple(part.encode() for part in parts)

    assert parse(data) == Folder([], [], [], parts)
