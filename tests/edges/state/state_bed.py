"""A user's state folder with runs in it, driven by the test itself or by a process that is gone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coordinator.domain.image.platforms import Mode, Platform, parse
from coordinator.domain.run.events import Assigned, AttemptEnded, Event, Place, RunEnded, RunStarted, StepLine, Verified
from coordinator.domain.run.lease import Driver
from coordinator.domain.run.states import AttemptEvent, JobEvent, TargetEvent
from coordinator.report.record import recorded
from coordinator.report.watch import Watch
from coordinator.state.logs import log_folder, log_path, store_path
from coordinator.store.processes import this_driver
from coordinator.store.sqlite import Store
from tests.acceptance.archloom import Home
from tests.services.commands import run_limited

AMD64, ARM64 = parse("linux/amd64"), parse("linux/arm64")
DIGEST = "sha256:" + "ab" * 32
TAG = "nas.lan:5000/app:1"
GOOD = (AttemptEvent.SEND, AttemptEvent.SENT, AttemptEvent.BUILT, AttemptEvent.PUSH, AttemptEvent.PUSHED)


def dead_driver() -> Driver:
    """A process of this machine that is gone."""
    code = (
        "import json, dataclasses; from coordinator.store.processes import this_driver;"
        "print(json.dumps(dataclasses.asdict(this_driver('ann@desk', 'gone'))))"
    )
    told = run_limited([sys.executable, "-c", code], capture_output=True, check=True)
    return Driver(**json.loads(told.stdout))


class StateBed:
    """`home` is the user's; what is written here is what a driver writes there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.home = Home(folder)
        self.at: float | None = None
        self.stack = ExitStack()
        self.store = self.stack.enter_context(Store(store_path(self.home.state), self.now))
        self._watches: dict[str, Watch] = {}

    def now(self) -> float:
        """The present, unless `at` is set."""
        return time.time() if self.at is None else self.at

    def begin(
        self,
        run_id: str,
        *,
        driver: Driver | None = None,
        platforms: Iterable[Platform] = (AMD64,),
        tag: str = TAG,
    ) -> None:
        """A run under way, with a record that says so. It is driven by this process unless another is given."""
        ids = {platform: platform.slug * 8 for platform in platforms}
        driver = driver or this_driver("ann@desk", f"driver of {run_id}")
        self.store.create_run(run_id, {"tags": [tag]}, ids, driver=driver, inputs={}, inventory="")
        folder = str(log_folder(self.home.state, run_id))
        self.tell(run_id, RunStarted(run=run_id, tags=(tag,), platforms=tuple(ids), log_folder=folder))

    def tell(self, run_id: str, *events: Event) -> None:
        """The driver's record."""
        if run_id not in self._watches:
            self._watches[run_id] = self.stack.enter_context(recorded(lambda _: None, self.now))
        for event in events:
            self._watches[run_id](event)

    def log(self, run_id: str, text: str, *, platform: Platform = AMD64, number: int = 1) -> Path:
        """What the host of an attempt printed."""
        path = log_path(self.home.state, run_id, platform, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(text)
        return path

    def assign(self, run_id: str, *, host: str = "pi5") -> int:
        """The run's first job is given to a host; the attempt."""
        job = self.store.run(run_id).jobs[0]
        attempt = self.store.assign(job.id, host, Mode.NATIVE)
        self.tell(run_id, Assigned(self.place(run_id), "assigned"))
        return attempt.id

    def place(self, run_id: str) -> Place:
        job = self.store.run(run_id).jobs[0]
        return Place(platform=job.platform, host=job.attempts[-1].host, mode=job.attempts[-1].mode)

    def publish(self, run_id: str) -> None:
        """The run of one job is built and ends well."""
        self.complete(run_id, self.assign(run_id))

    def complete(self, run_id: str, attempt: int) -> None:
        """The run ends well by this attempt of its one job."""
        for event in GOOD:
            self.store.move_attempt(attempt, event, digest=DIGEST)
        place = self.place(run_id)
        self.store.verify_job(self.store.run(run_id).jobs[0].id, {"mode": "native", "digest": DIGEST}, winner=attempt)
        self.tell(run_id, StepLine(place, "#5 [2/2] RUN make", "[2/2] RUN make"))
        self.tell(run_id, Verified(place=place, digest=DIGEST, pin="archloom-1", seconds=2.0))
        for step in (TargetEvent.COMPLETE, TargetEvent.INDEX, TargetEvent.TAG, TargetEvent.PUBLISH):
            self.store.move_target(run_id, step, digest=DIGEST)
        self.store.finish(run_id, 0)
        modes = {str(place.platform): "native"}
        tags = self.store.run(run_id).asked_tags
        self.tell(run_id, RunEnded(run=run_id, exit_code=0, digest=DIGEST, tags=tags, platforms=modes, seconds=3.0))

    def fail(self, run_id: str, *, tell: bool = True) -> None:
        """The run of one job ends with exit code 4."""
        attempt = self.assign(run_id)
        for event in (AttemptEvent.SEND, AttemptEvent.SENT):
            self.store.move_attempt(attempt, event)
        self.store.move_attempt(attempt, AttemptEvent.FAIL, code="build", message="exit code: 2")
        self.store.move_job(self.store.run(run_id).jobs[0].id, JobEvent.FAIL)
        self.store.move_target(run_id, TargetEvent.GIVE_UP)
        self.store.finish(run_id, 4)
        ended = AttemptEnded(place=self.place(run_id), state="failed", code="build", message="exit code: 2")
        self.tell(run_id, ended)
        if tell:
            self.tell(
                run_id,
                RunEnded(
                    run=run_id,
                    exit_code=4,
                    digest="",
                    tags=self.store.run(run_id).asked_tags,
                    seconds=3.0,
                    message="1 of 1 platforms not built",
                    hint=f"the whole log: archloom logs {run_id}",
                ),
            )


@contextmanager
def state_bed(folder: Path) -> Iterator[StateBed]:
    bed = StateBed(folder)
    with bed.stack:
        yield bed
