"""What committing a state costs: a step of an attempt with its event, against a bare write and fsync on the same disk.

`python bench/store_commit.py [FOLDER [COMMITS]]`: the home folder and 500 unless told. A run commits
about seven a platform, and nine besides.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import Compared, compare
from coordinator.domain.image.platforms import Mode, parse
from coordinator.domain.run.states import AttemptEvent
from coordinator.store.processes import this_driver
from coordinator.store.shared_fs import file_system
from coordinator.store.sqlite import Store

_PAGE = 4096
_ARM64 = parse("linux/arm64")


def main(folder: Path, commits: int) -> None:
    mounts = Path("/proc/self/mountinfo").read_text("utf-8")
    print(f"{commits} commits on {file_system(folder.resolve(), mounts) or 'an unknown file system'}")
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own)
        with Store(path / "archloom.db", time.time) as store, (path / "bare").open("wb", buffering=0) as bare:

            def synced() -> None:
                bare.write(os.urandom(_PAGE))
                os.fsync(bare.fileno())

            steps = pushes(store)
            told = compare(lambda: next(steps), synced, runs=commits)
            print(f"a state: {in_ms(told)}")
            told = compare(lambda: store.beat("bench"), synced, runs=commits)
            print(f"a heartbeat: {in_ms(told)}")
        with Store(None, time.time) as store:
            steps = pushes(store)
            told = compare(lambda: next(steps), lambda: None, runs=commits)
            print(f"of that without the disk: {told.ours * 1e3:.3f} ms")


def pushes(store: Store) -> Iterator[None]:
    """A commit at a time: a push that is begun and lost, again and again."""
    driver = this_driver("bench", "bench")
    run = store.create_run("bench", {}, {_ARM64: "b"}, driver=driver, inputs={}, inventory="")
    attempt = store.assign(run.jobs[0].id, "pi5", Mode.NATIVE)
    for event in (AttemptEvent.SEND, AttemptEvent.SENT, AttemptEvent.BUILT):
        store.move_attempt(attempt.id, event)
    while True:
        for event in (AttemptEvent.PUSH, AttemptEvent.PUSH_LOST):
            store.move_attempt(attempt.id, event)
            yield


def in_ms(told: Compared) -> str:
    return f"ours {told.ours * 1e3:.2f} ms, fsync {told.theirs * 1e3:.2f} ms, ratio {told.ratio:.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else Path.home()), int(sys.argv[2]) if sys.argv[2:] else 500)
