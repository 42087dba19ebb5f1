"""Jobs on the real engine, by every driver, and an engine that can be cut off."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytest

from agents.engine import engines
from agents.engine.docker_clis import find_cli
from agents.engine.guard import Thresholds
from agents.job import results
from agents.job.follow import follow
from agents.job.spec import Spec, parse
from tests.services.busybox import busybox
from tests.services.commands import run_limited
from tests.services.missing import missing
from tests.services.paths import ROOT

BUILD_CLIENTS = ("api", "docker", "buildx")
# Longer than any step here takes on a busy machine.
PATIENCE = 60.0


class Job(NamedTuple):
    """A job as `start` finds it: its folder with a context, and its spec."""

    folder: Path
    spec: Spec
    output: BinaryIO

    @property
    def context(self) -> Path:
        return self.folder / "context"

    @property
    def log(self) -> str:
        return (self.folder / results.LOG).read_text("utf-8", "replace")

    def build(self, thresholds: Thresholds | None = None) -> engines.EngineBuild:
        return engines.prepare(self.spec, self.folder, self.output, thresholds)

    def run(self) -> dict[str, Any]:
        return self.build().run()


@contextmanager
def job(tmp_path: Path, driver: str, dockerfile: str, platform: str = "linux/amd64", **fields: object) -> Iterator[Job]:
    """A job with the platform's busybox as its context; what the engine holds for it goes with it."""
    name = uuid.uuid4().hex[:8]
    folder = tmp_path / name
    (folder / "context").mkdir(parents=True)
    shutil.copy(busybox(platform), folder / "context" / "busybox")
    (folder / "context" / "Dockerfile").write_text("FROM elsewhere\n")
    spec = parse(
        {
            "format": 1,
            "platform": platform,
            "engine": driver,
            "dockerfile": dockerfile,
            "dockerfile_path": "Dockerfile",
            "dockerfile_apart": False,
            "stage": "",
            "build_args": {},
            "labels": {},
            "no_cache": False,
            "image": f"archloom/{name}:test-1",
            "bases": [],
            "context_key": "0" * 32,
            "has_context": True,
            **fields,
        }
    )
    with (folder / results.LOG).open("ab", buffering=0) as output:
        try:
            yield Job(folder, spec, output)
        finally:
            engines.discard(spec)


def use_driver(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this driver's program one that is found, where the machine can have it."""
    if driver == "buildx":
        fetched = run_limited([ROOT / "scripts" / "fetch-buildx"], capture_output=True, text=True, timeout=240)
        if fetched.returncode:
            missing(f"there is no buildx: {fetched.stderr.strip()}")
        plugins = tmp_path / "docker-config" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-buildx").symlink_to(fetched.stdout.strip())
        monkeypatch.setenv("DOCKER_CONFIG", str(plugins.parent))
    if driver == "docker" and find_cli("docker", os.environ, tmp_path, "", "") is None:
        pytest.skip("every docker command line here is 23 or newer, and drives buildx")


@contextmanager
def running(build: engines.EngineBuild, made: Job, word: str) -> Iterator[list[dict[str, Any]]]:
    """The build in a thread, from when its log says `word`; its result is in the list after the block."""
    answers: list[dict[str, Any]] = []
    said, stop = threading.Event(), threading.Event()

    def look(text: str, _: int) -> None:
        if any(line.endswith(f" {word}") for line in text.splitlines()):
            said.set()

    worker = threading.Thread(target=lambda: answers.append(build.run()))
    reader = threading.Thread(target=follow, args=(made.folder, 0, look, stop))
    worker.start()
    reader.start()
    try:
        assert said.wait(PATIENCE), made.log
        yield answers
    finally:
        stop.set()
        reader.join(PATIENCE)
        build.cancel()
        worker.join(PATIENCE)


def came(answers: Sequence[object], within: float) -> bool:
    """Whether the build that is `running` has come to its end by itself, at the latest after so many seconds."""
    tick = threading.Event()
    return any(answers or tick.wait(0.02) for _ in range(int(within / 0.02)))


def gone(marker: str, within: float) -> bool:
    """Whether no process with this word in its command line is left, at the latest after so many seconds."""
    return _becomes(lambda: not _has_process(marker), within)


def sleeps(marker: str, within: float) -> bool:
    """Whether a step has started to sleep, at the latest after so many seconds. Its shell prints before it does."""
    return _becomes(lambda: _has_process(marker), within)


def _becomes(state: Callable[[], bool], within: float) -> bool:
    tick = threading.Event()
    for _ in range(round(within / 0.02)):
        if state():
            return True
        tick.wait(0.02)
    return state()


def _has_process(marker: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if marker.encode() in words and b"sleep" in words:
                return True
    return False


class Cut:
    """A unix socket that leads to the engine until it is cut; afterwards it leads nowhere, or to the engine again.

    `sent` has everything that clients sent.
    """

    def __init__(self, path: Path, engine: Path) -> None:
        self.path = path
        self._engine = str(engine)
        self.sent = bytearray()
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(32)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Every connection ends, as when an engine dies that is started again at once."""
        with self._lock:
            for end in self._ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Nobody listens any more, and every connection ends."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def close(self) -> None:
        self.stop()
        for thread in self._threads:
            thread.join(PATIENCE)
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._engine)
            with self._lock:
                self._ends += [near, far]
                for ends in ((near, far, self.sent), (far, near, bytearray())):
                    self._threads.append(threading.Thread(target=_pump, args=ends))
                    self._threads[-1].start()


@contextmanager
def comes_back(path: Path, engine: Path, seconds: float) -> Iterator[None]:
    """The engine is behind this socket again, where nobody listens, after so many seconds of the block."""
    proxies: list[Cut] = []
    later = threading.Timer(seconds, lambda: proxies.append(Cut(path, engine)))
    later.start()
    try:
        yield
    finally:
        later.join(PATIENCE)
        for proxy in proxies:
            proxy.close()


def _pump(source: socket.socket, sink: socket.socket, passed: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            passed += data
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def cut_off(path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:
    """The engine behind a socket that can be cut, as this test's DOCKER_HOST."""
    proxy = Cut(path, engine)
    with monkeypatch.context() as patched:
        patched.setenv("DOCKER_HOST", f"unix://{path}")
        try:
            yield proxy
        finally:
            proxy.close()
