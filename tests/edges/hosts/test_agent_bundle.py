"""The agent travels as one file whose name says what is in it."""

from __future__ import annotations

import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.errors import UsageError
from coordinator.hosts.agent.bundle import bundle, contents
from tests.edges.hosts.agent_bed import oldest_python
from tests.services.commands import run_limited


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "inner" / "__pycache__").mkdir(parents=True)
    (folder / "__main__.py").write_text("def main():\n    print('here', __file__)\n    return 7\n")
    (folder / "__init__.py").touch()
    (folder / "bytecode.py").write_text("def use(archive):\n    pass\n")
    (folder / "inner" / "data.bin").write_bytes(b"\0\1")
    (folder / "inner" / "__pycache__" / "x.pyc").touch()
    (folder / "README.md").touch()
    return folder


def test_the_same_sources_make_the_same_bytes(package: Path, tmp_path: Path):
    """Neither times nor modes nor compiled files change the file."""
    before = contents(package)
    os.utime(package / "__main__.py", (1, 1))
    (package / "__main__.py").chmod(0o755)
    (package / "inner" / "__pycache__" / "y.pyc").touch()

    assert contents(package) == before

    made = tmp_path / "made.pyz"
    made.write_bytes(before)
    assert zipfile.ZipFile(made).namelist() == [
        "__main__.py", "bytecode.py", "agents/__init__.py", "agents/__main__.py", "agents/inner/data.bin",
    ]  # fmt: skip
    ran = run_limited([sys.executable, made], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.split()[0]) == (7, "here")

    (package / "inner" / "data.bin").write_bytes(b"\0\2")
    assert contents(package) != before


def test_many_may_make_it_at_once(tmp_path: Path):
    """Every one of them gets the whole file, and nothing else stays."""
    environment = {"XDG_CACHE_HOME": str(tmp_path)}

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: bundle(environment), range(16)))

    (path,) = made
    assert list((tmp_path / "archloom").iterdir()) == [path]
    assert path.name.startswith("archloom-agent-")
    assert path.suffix == ".pyz"
    assert zipfile.ZipFile(path).testzip() is None


def test_a_damaged_file_is_made_again(tmp_path: Path):
    """A file of the right name with other content is not believed."""
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    path = bundle(environment)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])

    assert bundle(environment).read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    """The error says which folder, and what to do."""
    (tmp_path / "archloom").touch()

    with pytest.raises(UsageError, match=str(tmp_path)) as refused:
        bundle({"XDG_CACHE_HOME": str(tmp_path)})
    assert "XDG_CACHE_HOME" in refused.value.hint


def test_an_old_python_is_told_so(tmp_path: Path):
    """The first file an interpreter reads is plain enough for any of them to say what is needed."""
    with zipfile.ZipFile(bundle({"XDG_CACHE_HOME": str(tmp_path)})) as archive:
        source = archive.read("__main__.py").decode()

    old = source.replace("sys.version_info < (3, 9)", "sys.version_info < (99,)")
    ran = run_limited([sys.executable, "-c", old], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith("archloom-agent: needs Python 3.9 or newer, this is 3.")


@pytest.mark.parametrize("python", sorted({sys.executable, oldest_python()}))
def test_the_bundle_runs_and_knows_its_name(tmp_path: Path, python: str):
    """Every module of the real agent loads from the file, without a warning, on this Python and the oldest at hand."""
    path = bundle({"XDG_CACHE_HOME": str(tmp_path)})

    ran = run_limited([python, "-W", "error", path, "--version"], capture_output=True, text=True)
    misused = run_limited([python, path, "dance"], capture_output=True, text=True)

    assert (ran.stderr, ran.returncode) == ("", 0)
    assert ran.stdout == f"archloom-agent {path.stem.removeprefix('archloom-agent-')}, protocol 1\n"
    assert (misused.stdout, misused.returncode) == ("", 2)
    assert misused.stderr.startswith("usage: archloom-agent serve")
