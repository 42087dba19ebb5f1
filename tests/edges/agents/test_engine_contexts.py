"""What engines make of a context folder that changes from job to job: the image has what was offered, always."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agents.base import state
from agents.engine import engines
from agents.job import results
from tests.edges.agents.contexts_bed import DOCKERFILE, Board
from tests.edges.agents.engine_bed import use_driver
from tests.edges.agents.folders_bed import Script, below, file, pair
from tests.edges.agents.transfer_bed import MTIME

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]


@pytest.fixture(params=["docker", "buildx"])
def board(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    use_driver(request.param, tmp_path, monkeypatch)
    with ExitStack() as held:
        yield Board(request.param, tmp_path / "state", held)


def regular(content: bytes, mode: int = 0o644) -> tuple[object, ...]:
    return (tarfile.REGTYPE, mode, content)


def test_a_file_of_the_same_size_and_time_is_another_file(board: Board):
    """As contexts from Git and archives have them. So does each way back and forth."""
    for content in (b"AAAA", b"BBBB", b"AAAA", b"CCCC"):
        assert board.build(file(content)) == {"f": regular(content)}


def test_a_folders_mode_alone_is_a_change(board: Board):
    for mode in (0o755, 0o700, 0o755):
        assert board.build(below(mode), 2)["d"] == (tarfile.DIRTYPE, mode, "")


def test_hard_links_come_and_go(board: Board):
    """Equal files are files of their own, until they are names of one file."""
    for names in (("", ""), ("a", "a"), ("", "")):
        # The engine's cache knows contents, and not whether files are linked.
        content = uuid.uuid4().bytes
        found = board.build(pair(*names, content), 2)
        kinds = {found["a"][0], found["b"][0]}
        assert kinds == ({tarfile.REGTYPE, tarfile.LNKTYPE} if names[0] else {tarfile.REGTYPE})
        assert regular(content) in found.values()


def link(target: str) -> Script:
    return lambda _: [["link", "l", MTIME, target]]


def test_a_link_with_the_same_time_has_another_target(board: Board):
    for target in ("x", "y"):
        assert board.build(link(target)) == {"l": (tarfile.SYMTYPE, 0o777, target)}


def test_two_jobs_at_once_get_what_each_was_offered(board: Board):
    """Same size, same times; then each of the two folders goes on."""
    jobs = [(*board.job(), content) for content in (b"AAAA", b"BBBB")]
    for job, _, content in jobs:
        board.send(job, file(content), 1)
    for job, spec, content in reversed(jobs):
        assert board.run(job, spec) == {"f": regular(content)}
    for content in (b"CCCC", b"AAAA"):
        assert board.build(file(content)) == {"f": regular(content)}


def test_a_failed_build_is_followed_by_a_right_one(board: Board):
    """The engine may have read all, some or nothing of what it failed on."""
    board.build(file(b"AAAA"))
    job, spec = board.job()
    board.send(job, file(b"BBBB", mtime=7), 1)
    with (job / results.LOG).open("ab", buffering=0) as output:
        broken = spec._replace(dockerfile=f"{DOCKERFILE}COPY missing /\n")
        assert engines.prepare(broken, job, output).run()["state"] == "FAILED"
    results.settle(job, {"state": "FAILED"})
    for content, mtime in ((b"CCCC", 7), (b"AAAA", MTIME)):
        assert board.build(file(content, mtime=mtime)) == {"f": regular(content)}


def test_after_a_restart_the_engine_is_shown_another_folder(board: Board, tmp_path: Path):
    """What the agent knew of the engine's copies may be gone."""
    board.build(file(b"AAAA"))
    for path in tmp_path.glob("state/contexts/*/*/*.json"):
        path.write_text(path.read_text().replace(state.boot_id(), str(uuid.uuid4())))
    assert board.build(file(b"BBBB")) == {"f": regular(b"BBBB")}


def test_an_engine_reads_what_changed(board: Board):
    """A megabyte once; afterwards the file that is another one."""
    large = uuid.uuid4().bytes * 65536

    def script(content: bytes, mtime: int) -> Script:
        return lambda there: [there.file("f", content, 0o644, mtime), there.file("large", large)]

    board.build(script(b"AAAA", 7), 2)
    assert board.read > len(large)
    for number in range(2):
        found = board.build(script(b"BBBB%d" % number, 8 + number), 2)
        assert found == {"f": regular(b"BBBB%d" % number), "large": regular(large)}
        assert board.read < 10_000
