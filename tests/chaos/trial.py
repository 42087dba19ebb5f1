"""One trial: a build in which something breaks, its end, what finishes it once all is well, and the judgement."""

from __future__ import annotations

import random
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import builds
from tests.chaos.desk import Command, Desk
from tests.chaos.judge import Published, publish_old, published
from tests.chaos.lab import ChaosLab
from tests.chaos.moments import Moments, Struck
from tests.chaos.observer import Observer, observed
from tests.chaos.plan import Plan
from tests.chaos.scene import Scene

# What a command without any fault may take on a busy machine.
FINISH_S = 90.0
# More than the 5 s in which Ctrl-C has to end a command: then it is killed.
_MERCY_S = 30.0
_MOST_TRIES = 3


@dataclass(slots=True, kw_only=True, eq=False)
class Ran:
    """A command of the trial that has ended. `asked_to_stop`: when Ctrl-C was pressed; `tag`: what is there since."""

    command: Command
    gave_up: bool = False
    asked_to_stop: float | None = None
    was_killed: bool = False
    tag: Published | str = ""

    @property
    def verb(self) -> str:
        return self.command.words[0]

    @property
    def exit_code(self) -> int:
        code = self.command.returncode
        assert code is not None, "it runs"
        return code


@dataclass(slots=True, kw_only=True, eq=False)
class Trial:
    """All that happened. `healed` is when everything was well again.

    `held` are the platforms that needed no build then; `is_finished`: by the last command's word, or the store's.
    """

    plan: Plan
    lab: ChaosLab
    desk: Desk
    observer: Observer
    repository: str
    token: str
    struck: list[Struck]
    first: Ran
    healed: float = 0.0
    later: list[Ran] = field(default_factory=list)
    held: frozenset[str] = frozenset()
    runs: set[str] = field(default_factory=set)
    is_finished: bool = False

    @property
    def tag(self) -> str:
        return f"{self.lab.proxy.address}/{self.repository}:1"

    @property
    def commands(self) -> list[Ran]:
        return [self.first, *self.later]

    @property
    def right(self) -> Published:
        return {platform: builds.content(self.token, platform) for platform in self.plan.build.platforms}

    @property
    def old(self) -> Published:
        had = self.plan.had_tag
        return {platform: builds.content(builds.OLD, platform) for platform in self.plan.build.platforms} if had else {}

    @property
    def kinds(self) -> set[str]:
        """The kinds of the faults that struck."""
        return {one.planned.kind for one in self.struck if one.at is not None}


@contextmanager
def trial(lab: ChaosLab, plan: Plan, folder: Path) -> Iterator[Trial]:
    """The trial, run to its end in a new folder; to be judged inside the block."""
    token, repository = f"chaos{secrets.token_hex(6)}", f"chaos/{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    if plan.had_tag:
        publish_old(lab, repository, "1", plan.build.platforms)
    for board in lab.boards.values():
        board.bandwidth(plan.build.rate)
    with lab.desk(folder, plan.patience) as desk, observed(token, lab.where) as observer:
        context = builds.make(plan.build, folder / "context", lab.base, token, random.Random(plan.seed))
        moments = Moments(plan, Scene(lab=lab, desk=desk, observer=observer))
        tag = f"{lab.proxy.address}/{repository}:1"
        words = ("build", str(context), "-t", tag, *plan.build.words)
        moments.before()
        command = desk.start(*words, "--progress", "rawjson")
        moments.watch(Scene(lab=lab, desk=desk, observer=observer, command=command))
        first = _to_its_end(command, plan.user_s)
        moments.heal()
        first.tag = published(lab, repository, "1")
        done = Trial(
            plan=plan, lab=lab, desk=desk, observer=observer, repository=repository, token=token,
            struck=moments.struck, first=first, healed=time.monotonic(),
        )  # fmt: skip
        done.held = held(done)
        _finish(done, words)
        yield done


def _to_its_end(command: Command, patience: float) -> Ran:
    """Waits so long, then presses Ctrl-C, and in the end kills it."""
    ran = Ran(command=command)
    if not command.wait(patience):
        ran.gave_up, ran.asked_to_stop = True, time.monotonic()
        command.send(signal.SIGINT)
        if not command.wait(_MERCY_S):
            ran.was_killed = True
            command.end()
    return ran


def held(trial: Trial) -> frozenset[str]:
    """The platforms that need no build any more: verified, or built on a host that nothing but a network has struck."""
    lost = {one.scene.host for one in trial.struck if one.at is not None and not one.planned.of.spares_images}
    found = set()
    for _, event in trial.first.command.events:
        # What is pushed is built.
        is_built = event["event"] == "phase" and event["name"] == "push" and event["host"] not in lost
        if event["event"] == "verified" or is_built:
            found.add(event["platform"])
    return frozenset(found)


def _finish(trial: Trial, words: tuple[str, ...]) -> None:
    """The command that a user would give next, until the tag is right."""
    while (command := _next_command(trial, words)) and len(trial.later) < _MOST_TRIES:
        trial.later.append(_to_its_end(trial.desk.start(*command, "--progress", "rawjson"), FINISH_S))
        trial.later[-1].tag = published(trial.lab, trial.repository, "1")


def _next_command(trial: Trial, words: tuple[str, ...]) -> tuple[str, ...] | None:
    runs = trial.desk.ask("runs") or []
    trial.runs |= {run["run"] for run in runs}
    trial.is_finished = trial.commands[-1].exit_code == 0 or bool(runs and runs[0]["exit_code"] == 0)
    if trial.is_finished:
        return None
    if not runs:
        return words
    run = runs[0]
    return ("resume" if run["exit_code"] is None else "retry", run["run"])


def build_next(trial: Trial) -> Ran:
    """Another build of the same user, for every board: what earlier runs have left goes with it."""
    folder = trial.lab.folder / f"next-{secrets.token_hex(4)}"
    context = builds.make(trial.plan.build, folder, trial.lab.base, f"next{secrets.token_hex(4)}", random.Random(0))
    tag = f"{trial.lab.proxy.address}/{trial.repository}:next"
    command = trial.desk.start("build", str(context), "-t", tag, "--platform", "linux/amd64,linux/386,linux/arm64")
    ran = _to_its_end(command, FINISH_S)
    trial.runs |= {run["run"] for run in trial.desk.ask("runs") or []}
    return ran
