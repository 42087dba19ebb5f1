"""Seconds that a fault costs a build, by kind of fault, beside the time of a run in which nothing breaks.

`python bench/faults.py [RUNS] [NAME…]`, 3 runs of each unless told. Two boards and an emulator, an image for the
platforms of the boards whose step takes 5 s and whose push takes 1 s. What the registry was away for is not counted as
lost, and neither is what was built by the time when a board went off: another has to build it again.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.chaos.builds import Build
from tests.chaos.lab import ChaosLab, chaos_lab
from tests.chaos.plan import Plan, Planned
from tests.chaos.trial import Trial, trial

BUILD = Build(platforms=("linux/amd64", "linux/386"), seconds=5, noise=1 << 22, rate="30mbit")


@dataclass(frozen=True, slots=True)
class Case:
    """`lasts` is in seconds; None: until the run ends. `budget`: the most seconds that may be lost."""

    kind: str
    stage: str
    lasts: float | None = None
    budget: float | None = None

    @property
    def plan(self) -> Plan:
        fault = Planned(kind=self.kind, stage=self.stage, delay=0.3, lasts=self.lasts)
        return Plan(seed=1, build=BUILD, faults=(fault,), had_tag=False)


CASES = {
    "board off at the start": Case("off", "before", budget=5),
    "board off in a build": Case("off", "running", budget=20),
    "board off in a push": Case("off", "push", budget=20),
    "cable pulled for 15 s in a build": Case("cut-15", "running", 15.0, budget=20),
    "board reset in a build": Case("reset", "running", 8.0, budget=20),
    "engine killed in a build, back after 4 s": Case("engine-killed", "running", 4.0, budget=20),
    "engine stands still in a build": Case("engine-stopped", "running", budget=20),
    "agent killed in a build": Case("serve-killed", "running", 0.0, budget=20),
    "agent stands still in a build": Case("serve-stopped", "running", budget=20),
    "engine's disk full in a build": Case("engine-disk-full", "running", budget=20),
    "registry away for 10 s, in a push": Case("registry-away", "push", 10.0, budget=20),
    "registry answers 503 for 10 s, in a push": Case("registry-503", "push", 10.0, budget=20),
    "registry silent for 10 s, in a push": Case("registry-silent", "push", 10.0, budget=20),
}


def main(runs: int, names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/var/tmp") as temporary, chaos_lab(Path(temporary)) as lab:
        sound = Plan(seed=1, build=BUILD, faults=(), had_tag=False)
        measured(lab, sound)  # the agent is sent
        healthy = [measured(lab, sound) for _ in range(runs)]
        print(f"nothing breaks: {statistics.median(healthy):.1f} s (from {min(healthy):.1f} to {max(healthy):.1f})")
        for name in names or CASES:
            case = CASES[name]
            lost = [measured(lab, case.plan) - statistics.median(healthy) for _ in range(runs)]
            budget = f", budget {case.budget:.0f} s" if case.budget else ""
            print(f"{name}: {statistics.median(lost):.1f} s lost (from {min(lost):.1f} to {max(lost):.1f}){budget}")


def measured(lab: ChaosLab, plan: Plan) -> float:
    """Seconds of the run, less what no program could save."""
    folder = Path(tempfile.mkdtemp(dir=lab.folder))
    try:
        with trial(lab, plan, folder / "trial") as done:
            check(done)
            return done.first.command.seconds - sum(unavoidable(done, plan, one.at) for one in done.struck)
    finally:
        lab.restore()


def check(done: Trial) -> None:
    for one in done.struck:
        if one.at is None or one.error:
            raise SystemExit(f"{one}\n{done.first.command.stderr}")
    if done.first.exit_code:
        print(f"{'; '.join(map(str, done.struck))}: exit {done.first.exit_code}, as if it had ended well")


def unavoidable(done: Trial, plan: Plan, struck: float | None) -> float:
    """What the registry was away, or what is built for a second time."""
    for one in plan.faults:
        if one.kind.startswith("registry-"):
            return one.lasts or 0.0
    built = [run for platform in plan.build.platforms for run in done.observer.of(platform) if run.began <= struck]
    again = [run for platform in plan.build.platforms for run in done.observer.of(platform, struck or 0.0)]
    return max(((struck or run.began) - run.began for run in built), default=0.0) if again else 0.0


if __name__ == "__main__":
    words = sys.argv[1:]
    count = int(words.pop(0)) if words and words[0].isdigit() else 3
    main(count, words)
