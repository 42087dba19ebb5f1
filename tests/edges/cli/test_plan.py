"""`archloom plan` reads the inputs as a build does: what no build accepts is told before any host is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.cli.main import run

WORDS = ("-t", "nas.lan:5000/app:1", "--platform", "linux/arm64")


@pytest.mark.parametrize(
    ("dockerfile", "flags", "says"),
    [
        ("FROM scratch AS base\n", ("--target", "nope"), "has no stage 'nope'"),
        ("FROM ${NOPE}\n", (), "FROM ${NOPE} names no image"),
        ("FROM Upper:1\n", (), "Upper"),
        ("FROM scratch\nCOPY --from=3 / /\n", (), "there is no stage 3"),
    ],
)
def test_what_no_build_accepts_is_told(tmp_path: Path, capsys, dockerfile: str, flags: tuple[str, ...], says: str):
    """Exit 2, with a hint, and no plan."""
    (tmp_path / "Dockerfile").write_text(dockerfile)

    assert run(["plan", str(tmp_path), *WORDS, *flags]) == 2

    told = capsys.readouterr()
    assert says in told.err
    assert "hint: " in told.err
    assert told.out == ""
