"""A board whose engine builds contexts that jobs get one after the other."""

from __future__ import annotations

import io
import json
import re
import tarfile
import uuid
from contextlib import ExitStack
from pathlib import Path

from agents.context.cache import Objects
from agents.context.receive import receive
from agents.engine import engines
from agents.job import results
from agents.job.spec import Spec, parse
from tests.edges.agents.folders_bed import Script
from tests.edges.agents.transfer_bed import Scripted
from tests.services.commands import run_limited

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
            "context_key": self._key, "has_context": True, "limits": {},
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
            build = engines.prepare(spec, job, output)
            result = build.run()
        build.drop_old_records()
        self.log = (job / results.LOG).read_text()
        assert result["state"] == "BUILT", self.log
        results.settle(job, {**result, "log_size": 0})
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
