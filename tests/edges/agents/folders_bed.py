"""A host whose jobs get their contexts one after the other, and what these contexts are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.context.cache import Objects
from agents.context.receive import receive
from agents.job import results
from tests.edges.agents.transfer_bed import MTIME, Scripted

KEY = "0123456789abcdef" * 2
Script = Callable[[Scripted], list[list[object]]]


class Host:
    """A host's state folder, and the jobs that get their contexts there, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.state = folder
        self._jobs = 0

    def job(self) -> Path:
        self._jobs += 1
        job = self.state / f"jobs/job-{self._jobs}"
        job.mkdir(parents=True)
        return job

    def skip(self) -> None:
        """Leave out the number of a job that another process has made."""
        self._jobs += 1

    def send(self, job: Path, there: Scripted, root: str, count: int, key: str = KEY) -> Path:
        """The folder that the job's engine reads."""
        there.offer(root, count)
        objects = Objects(self.state)
        try:
            receive(job, key, there, there.say, objects)
        finally:
            objects.close()
        return (job / "context").resolve()

    def build(self, script: Script, count: int = 1, key: str = KEY) -> Path:
        """The folder of a job that has ended."""
        there, job = Scripted(), self.job()
        folder = self.send(job, there, there.folder(*script(there)), count, key)
        end(job)
        return folder


def end(job: Path) -> None:
    (job / "spec.json").write_text("{}")
    results.settle(job, {"state": "BUILT", "log_size": 0})


def file(content: bytes = b"AAAA", mode: int = 0o644, mtime: int = MTIME, name: str = "f", group: str = "") -> Script:
    return lambda there: [[*there.file(name, content, mode, mtime), *([group] if group else [])]]


def below(mode: int, content: bytes = b"AAAA") -> Script:
    return lambda there: [there.below("d", there.file("f", content), mode=mode)]


def pair(first: str, second: str, content: bytes = b"AAAA") -> Script:
    return lambda there: [
        [*there.file("a", content), *([first] if first else [])],
        [*there.file("b", content), *([second] if second else [])],
    ]
