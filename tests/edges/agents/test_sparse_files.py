"""Zeros are holes on the host's disk, in the context, in the store, and in a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edges.agents.transfer_bed import Scripted, arrive

MIB = 1 << 20


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "content",
    [b"a" + bytes(4 * MIB) + b"b" + bytes(4 * MIB), bytes(8 * MIB), bytes(4096), bytes(4095), bytes(5000) + b"a"],
)
def test_zeros_take_no_room(tmp_path: Path, content: bytes, *, packed: bool):
    """Whatever their length, in the middle and at the end; the second file is a copy of the first."""
    script = Scripted(packed=packed)
    root = script.folder(script.file("one", content), script.file("two", content))

    arrive(script, root, 2, tmp_path / "state", tmp_path / "context")
    arrive(Scripted(), root, 2, tmp_path / "state", tmp_path / "again")

    for path in (tmp_path / "context/one", tmp_path / "context/two", tmp_path / "again/one", tmp_path / "again/two"):
        assert path.read_bytes() == content
        assert path.stat().st_blocks * 512 <= 3 * MIB
