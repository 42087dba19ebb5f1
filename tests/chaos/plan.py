"""A trial as data: one number says what is built, what breaks, when, and for how long."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.chaos.board_faults import BOARD_FAULTS
from tests.chaos.builds import Build, random_build
from tests.chaos.lab import SPECS
from tests.chaos.other_faults import OTHER_FAULTS
from tests.chaos.program_faults import PROGRAM_FAULTS
from tests.chaos.scene import Kind, Kinds, Target

KINDS: Kinds = {**BOARD_FAULTS, **PROGRAM_FAULTS, **OTHER_FAULTS}
# What a real cut takes is made shorter by this, so that a trial does not take minutes.
SCALE = 0.3
# When the user of a trial has had enough, and presses Ctrl-C: after every deadline of a host, and before archloom's
# patience with a registry that stays away is over.
PATIENCE_S, REGISTRY_PATIENCE_S = 100.0, 40.0
# archloom's own patience: with a host, made shorter as cuts are; with a registry, shorter than the user's, or longer.
_RECONNECT_S, _REGISTRY_S = 60, (15, 300)
_WAYS = ("answers-lost", "away", "reset", "silent", "slow", "stall", "tag-lost")
# One of these is drawn, then a kind of it: there are more ways for a registry to fail than for a cable.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "cable": ("cut-", "loss-", "1mbit"),
    "power": ("off", "reset", "reboot"),
    "sshd": ("sshd-",),
    "disks": ("engine-disk", "engine-inodes", "engine-read-only", "state-disk"),
    "engine": ("engine-killed", "engine-stopped", "engine-restarted", "containerd-"),
    "agent": ("serve-", "job-", "client-"),
    "lies": ("lie-", "agent-file-", "slot-"),
    "refusals": tuple(f"registry-{status}" for status in ("401", "403", "404", "429", "500", "503")),
    "ways": tuple(f"registry-{way}" for way in _WAYS),
    "full registry": ("registry-full", "registry-read-only"),
    "coordinator": ("coordinator-",),
    "store": ("store-",),
}
# Seconds that a fault may come after its stage: most stages are short.
_MOST_DELAY = {"before": 0.0, "start": 1.5, "context": 0.5, "running": 2.0, "push": 0.8, "verify": 0.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A fault of a kind: `delay` seconds after the stage is reached, for `lasts` seconds; None: to the run's end.

    `board` is the one that it strikes, of all in their order, where no stage says which.
    """

    kind: str
    stage: str
    delay: float
    lasts: float | None
    board: int = 0

    @property
    def of(self) -> Kind:
        return KINDS[self.kind]

    def __str__(self) -> str:
        length = "to the end" if self.lasts is None else f"{self.lasts:.1f} s" if self.lasts else "once"
        return f"{self.kind} at {self.stage}+{self.delay:.1f} s, {length}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`had_tag`: something older is published under the tag.

    `patience`: how many seconds archloom waits for a host that is away, and for a registry.
    """

    seed: int
    build: Build
    faults: tuple[Planned, ...]
    had_tag: bool
    patience: tuple[int, int] = (60, 300)

    @property
    def user_s(self) -> float:
        """Seconds that the user waits for the end."""
        away = any(one.lasts is None and one.of.target is Target.REGISTRY for one in self.faults)
        return REGISTRY_PATIENCE_S if away else PATIENCE_S

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.build}; {'; '.join(map(str, self.faults))}"


def plan(seed: int, *, scale: float = SCALE, only: Collection[str] = ()) -> Plan:
    """The same seed is the same trial. `only`: the first fault is of one of these kinds."""
    dice = random.Random(seed)
    build, had_tag, has_second = random_build(dice), dice.random() < 0.5, dice.random() < 0.4
    first = _drawn(f"{seed} first", only or KINDS)
    names = [first]
    if has_second and not only:
        names.append(_drawn(f"{seed} second", [name for name in KINDS if not _clash(first, name)]))
    return Plan(
        seed=seed,
        build=build,
        faults=tuple(_planned(name, seed, scale) for name in names),
        had_tag=had_tag,
        patience=(max(1, round(_RECONNECT_S * scale)), dice.choice(_REGISTRY_S)),
    )


def _drawn(lot: str, names: Collection[str]) -> str:
    """One of these. What is drawn stays the same for nearly every lot when a kind is added (rendezvous hashing)."""
    family = _first(lot, {_family(name) for name in names})
    return _first(lot, [name for name in names if _family(name) == family])


def _first(lot: str, names: Collection[str]) -> str:
    return max(names, key=lambda name: random.Random(f"{lot} {name}").random())


def _family(name: str) -> str:
    return next(family for family, begins in FAMILIES.items() if name.startswith(begins))


def _clash(first: str, second: str) -> bool:
    """Two of which one would end, or hide, the other."""
    targets = {KINDS[first].target, KINDS[second].target}
    both_lie = _family(first) == _family(second) == "lies"
    return (
        first == second
        or both_lie
        or (len(targets) == 1 and targets <= {Target.REGISTRY, Target.COORDINATOR, Target.STORE})
    )


def _planned(name: str, seed: int, scale: float) -> Planned:
    kind, dice = KINDS[name], random.Random(f"{seed} {name}")
    stage, lasts = dice.choice(kind.stages), dice.choice(kind.lasts)
    if lasts is not None and kind.scaled:
        lasts = round(lasts * scale, 1)
    delay = round(dice.uniform(0, _MOST_DELAY[stage]), 1)
    return Planned(kind=name, stage=stage, delay=delay, lasts=lasts, board=dice.randrange(len(SPECS)))
