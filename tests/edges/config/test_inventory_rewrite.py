"""Writing the inventory: whole or not at all, for everybody who writes at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.config.edit import Entry, with_host, without_host
from coordinator.config.load import load
from coordinator.config.rewrite import place, rewrite
from coordinator.errors import UsageError

TEXT = "emulators:\n  local: local\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yaml"
    path.write_text(TEXT)
    return path


def test_many_at_once(file: Path):
    """Nobody's entry is lost."""

    def add(number: int) -> None:
        rewrite(file, lambda text: with_host(text, "i", Entry("boards", f"pi{number}", f"pi@10.0.0.{number}")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(1, 25)))
    assert {host.name for host in load(file).hosts} == {"local", *(f"pi{number}" for number in range(1, 25))}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_mode_and_link_stay(file: Path):
    """A link leads to the file that is written, which keeps its mode."""
    file.chmod(0o640)
    link = file.with_name("link.yaml")
    link.symlink_to(file.name)
    rewrite(link, lambda text: f"# mine\n{text}")
    assert link.is_symlink()
    assert file.read_text() == f"# mine\n{TEXT}"
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "made", ["boards: {pi5: {jbos: 2}}\n", "boards: [\n", "", "boards: {a: local}\nemulators: {b: local}\n"]
)
def test_what_is_no_inventory_is_not_written(file: Path, made: str):
    """The file stays as it was."""
    with pytest.raises(UsageError):
        rewrite(file, lambda _text: made)
    assert file.read_text() == TEXT
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_last_host_may_go(file: Path):
    """An inventory without hosts is written only by who removes them."""
    rewrite(file, lambda text: without_host(text, "i", "local"), may_be_empty=True)
    assert file.read_text() == "emulators:\n"


def test_where_a_new_entry_goes(tmp_path: Path):
    """The file that is named, also a new one; else the one that is read; else the user's own."""
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    own = home / ".config" / "archloom" / "inventory.yaml"
    assert place(None, {}, here, home) == own
    assert place(None, {"XDG_CONFIG_HOME": "/etc/xdg"}, here, home) == Path("/etc/xdg/archloom/inventory.yaml")
    assert place("new.yaml", {}, here, home) == here / "new.yaml"
    assert place(None, {"ARCHLOOM_INVENTORY": "other.yaml"}, here, home) == here / "other.yaml"
    with pytest.raises(UsageError):
        place("nowhere/new.yaml", {}, here, home)
    (here / "inventory.yaml").write_text(TEXT)
    assert place(None, {}, here, home) == here / "inventory.yaml"
