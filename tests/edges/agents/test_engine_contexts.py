"""What engines make of a context folder that changes from job to job: the image has what was offered, always."""

from __future__ import annotations

import io
import json
import re
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agents.base import state
from agents.context.cache import Objects
from agents.context.receive import receive
from agents.engine import engines
from agents.job import results
from agents.job.spec import Spec, parse
from tests.edges.agents.engine_bed import use_driver
from tests.edges.agents.folders_bed import Script, below, file, pair
from tests.edges.agents.transfer_bed import MTIME, Scripted
from tests.services.commands import run_limited

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]

DOCKERFILE = "FROM scratch\nCOPY . /all/\n"
Found = dict[str, tuple[object, ...]]


class Board:
    """Jobs of one user on one engine, one after the other."""

    def __init__(self, driver: str, folder: Path, held: ExitStack) -> None:
        self._driver = driver
        self._folder = folder
        self._held = held
        # No other test's folder, whose name an engine keys what it has read by.
        self._key = uuid.uuid4().hex
        self.log = ""

    def job(self) -> tuple[Path, Spec]:
        name = uuid.uuid4().hex[:8]
        job = self._folder / "jobs" / name
        job.mkdir(parents=True)
        fields = {
            "format": 1, "platform": "linux/amd64", "engine": self._driver, "dockerfile": DOCKERFILE,
            "dockerfile_path": "Dockerfile", "dockerfile_apart": True, "stage": "", "build_args": {},
            "labels": {}, "no_cache": False,
            "image": f"archloom/{name}:test-1", "bases": [],
            "context_key": self._key, "has_context": True,
        }  # fmt: skip
        (job / "spec.json").write_text(json.dumps(fields))
        spec = parse(fields)
        self._held.callback(engines.discard, spec)
        return job, spec

    def send(self, job: Path, script: Script, count: int) -> None:
        there = Scripted()
        there.offer(there.folder(*script(there)), count)
        objects = Objects(self._folder)
        receive(job, self._key, there, there.say, objects)
        objects.close()

    def run(self, job: Path, spec: Spec) -> Found:
        """What the image has below /all."""
        with (job / results.LOG).open("ab", buffering=0) as output:
            result = engines.prepare(spec, job, output).run()
        self.log = (job / results.LOG).read_text()
        assert result["state"] == "BUILT", self.log
        results.settle(job, result)
        return contents(spec.image)

    def build(self, script: Script, count: int = 1) -> Found:
        job, spec = self.job()
        self.send(job, script, count)
        return self.run(job, spec)

    @property
    def read(self) -> int:
        """The bytes that the engine has read of the context in the last build."""
        found = re.findall(r"transferring context: ([\d.]+)(k|M|)B", self.log)
        assert found, self.log
        return int(float(found[-1][0]) * {"": 1, "k": 1000, "M": 1_000_000}[found[-1][1]])


def contents(image: str) -> Found:
    made = run_limited(["docker", "create", image, "x"], check=True, capture_output=True, text=True, timeout=60)
    container = made.stdout.strip()
    try:
        exported = run_limited(["docker", "export", container], check=True, capture_output=True, timeout=60).stdout
    finally:
        run_limited(["docker", "rm", container], check=True, capture_output=True, timeout=60)
    found: Found = {}
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        for member in archive:
            name = member.name.removeprefix("all/")
            if not member.name.startswith("all/") or not name:
                continue
            content = archive.extractfile(member) if member.isfile() else None
            data = content.read() if content is not None else member.linkname
            found[name] = (member.type, member.mode & 0o7777, data)
    return found


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
