"""What is kept of a parsed inventory: it is what parsing gives, as long as nothing it depends on has changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coordinator.config.load import load
from coordinator.config.parsed_inventory import load_again
from coordinator.errors import UsageError
from tests.services.commands import run_limited
from tests.services.paths import ROOT

TEXT = """
defaults: {jobs: 2, connect_timeout: 3s}
boards:
  pi5: {host: ssh://pi@pi5:2222, platforms: [linux/arm64, linux/arm/v7], cache_budget: 2 GB, note: on the shelf}
  pi0: {state: drain, use: [run]}
emulators:
  big: {host: local, emulate: [linux/riscv64]}
registries:
  nas.lan:5000: {http: true}
  hub.lan: {ca: ca.pem}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_text("x")
    path = tmp_path / "inventory.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def kept_files(state: Path) -> list[Path]:
    return list((state / "inventories").iterdir())


def test_it_is_what_parsing_gives(path, state):
    assert load_again(path, state) == load(path)
    assert load_again(path, state) == load(path)
    assert len(kept_files(state)) == 1


def test_it_is_read_without_the_parser(path, state):
    load_again(path, state)
    code = (
        "import sys; from pathlib import Path; from coordinator.config.parsed_inventory import load_again\n"
        f"load_again(Path({str(path)!r}), Path({str(state)!r}))\n"
        "print(*{'pydantic', 'ruamel.yaml'} & set(sys.modules))"
    )

    done = run_limited([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "\n")


def test_a_changed_file_is_parsed_again(path, state):
    load_again(path, state)
    path.write_text(TEXT.replace("jobs: 2", "jobs: 3"))

    assert load_again(path, state).hosts[0].jobs == 3


def test_a_file_it_names_that_is_gone_is_an_error_again(path, state):
    load_again(path, state)
    (path.parent / "ca.pem").unlink()

    with pytest.raises(UsageError, match=r"there is no file .*ca\.pem"):
        load_again(path, state)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": 1}', b"\xff"])
def test_a_damaged_file_is_as_none(path, state, damage):
    inventory = load_again(path, state)
    (kept,) = kept_files(state)
    kept.write_bytes(damage)

    assert load_again(path, state) == inventory


@pytest.mark.parametrize("field", ["boot", "hosts", "registries"])
def test_a_file_of_another_form_is_as_none(path, state, field):
    inventory = load_again(path, state)
    (kept,) = kept_files(state)
    kept.write_text(kept.read_text().replace(f'"{field}"', '"other"').replace('"name"', '"other"'))

    assert load_again(path, state) == inventory


def test_nothing_is_written_where_there_is_no_state(path, tmp_path):
    assert load_again(path, tmp_path / "none") == load(path)
    assert not (tmp_path / "none").exists()


def test_an_inventory_with_problems_is_not_kept(path, state):
    path.write_text("boards: {pi5: {jbos: 1}}\n")

    with pytest.raises(UsageError, match="jbos"):
        load_again(path, state)

    assert not (state / "inventories").exists()
