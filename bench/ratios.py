"""`archloom build` on two boards of one core each, against what else one could do there, in turn, round by round.

`python bench/ratios.py [--runs N] [--engine debian12|sid] [SCENARIO...]`, 5, debian12 and all of
`scenarios.py` unless told. Ways: `shell` (rsync, `ssh docker build`, push, `docker manifest`), `buildx` (Debian's
newest, a node a board; with the engine of sid alone, whose BuildKit pushes by itself) and, where a budget names it,
`raw` (`ssh docker build` alone, of a folder that is there). The first round of each is not counted.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.lab import Bench, bench
from bench.measure import Compared, compared, run, seconds
from bench.scenarios import SCENARIOS, Scenario
from bench.ways import Archloom, Raw, Shell, buildx, tunnels
from tests.services.board_spec import BoardSpec
from tests.services.boards import Board
from tests.services.images import base_image

ENGINES = {"debian12": BoardSpec(), "sid": BoardSpec(system="sid", store="containerd")}
_PLATFORMS = ("linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one build. `cpu` is of the boards and `here` of the commands on this machine, in seconds; `bytes` went through
    the boards' cables, either way."""

    seconds: float
    cpu: float
    here: float
    bytes: float


def main(names: list[str], runs: int, engine: str) -> None:
    # Two boards that build are a load of two by themselves: before them, it is that of others.
    print(f"{time.strftime('%F %R')}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", flush=True)
    with boards(engine) as at:
        base = base_image(at.registry, *_PLATFORMS)
        with tunnels(at):
            for name in names or SCENARIOS:
                measured(at, name, SCENARIOS[name], base.reference, runs, engine)


@contextmanager
def boards(engine: str) -> Iterator[Bench]:
    """Two, of one core each, with the docker of their distribution, and with rsync."""
    spec = ENGINES[engine]
    specs = [BoardSpec(name=name, system=spec.system, store=spec.store) for name in ("pi-a", "pi-b")]
    with bench(*specs, one_core=True) as at:
        for one in at.boards:
            one.run("rm -f /usr/local/bin/docker")
            lend_rsync(one)
        yield at


def lend_rsync(board: Board) -> None:
    """This machine's, with the libraries that the board lacks."""
    program = shutil.which("rsync")
    if program is None:
        raise SystemExit("rsync is not here; install it: sudo apt-get install rsync")
    for file in (program, *re.findall(r"=> (/\S+)", run(["ldd", program]))):
        there = Path(f"/proc/{board.pid}/root{file}")
        if not there.exists():
            shutil.copy(file, there)


def measured(at: Bench, name: str, scenario: Scenario, base: str, runs: int, engine: str) -> None:
    """Prints a line for each way of this scenario."""
    context = scenario.make(at.folder / name, base)
    at.inventory({board: ", ".join(each) for board, each in scenario.layout.items()}, kind="emulators")
    with ExitStack() as stack:
        ways: dict[str, Callable[[Path], None]] = {
            "archloom": Archloom(at, scenario.layout).build,
            "shell": Shell(at, scenario.layout).build,
        }
        if engine == "sid":
            ways["buildx"] = stack.enter_context(buildx(at, scenario.layout)).build
        if any(way == "raw" for way, _ in scenario.budgets):
            ways["raw"] = Raw(at, scenario.layout).build
        at.prune()
        costs = in_turn(at, scenario, context, ways, runs)
    print(f"{name} ({scenario.about}; {engine}):", flush=True)
    for way, found in costs.items():
        print(f"  {way:9}{told(found)}{against(way, costs, scenario)}", flush=True)
    shutil.rmtree(context)


def in_turn(
    at: Bench, scenario: Scenario, context: Path, ways: Mapping[str, Callable[[Path], None]], runs: int
) -> dict[str, list[Cost]]:
    """The costs of each way, round by round; without the first."""
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(runs + 1):
        for way, build in ways.items():
            costs[way].append(attempted(at, scenario, context, ways, way, build))
    return {way: found[1:] for way, found in costs.items()}


def attempted(
    at: Bench,
    scenario: Scenario,
    context: Path,
    ways: Mapping[str, object],
    way: str,
    build: Callable[[Path], None],
) -> Cost:
    """The cost of the first build that succeeds. Those that fail are told, and those of archloom end it all.

    The shell's fail now and then: distribution 2.8 refuses an image whose layer another board pushes at the same time.
    """
    while True:
        scenario.change(context)
        if scenario.cold:
            forget(at, ways)
        try:
            return cost(at, lambda: build(context))
        except SystemExit as error:
            if way == "archloom":
                raise
            print(f"  {way} failed, and is tried again: {str(error).splitlines()[-2:]}", flush=True)


def cost(at: Bench, build: Callable[[], None]) -> Cost:
    before = used(at)
    taken = seconds(build)
    return Cost(taken, *(after - earlier for after, earlier in zip(used(at), before, strict=True)))


def used(at: Bench) -> tuple[float, float, float]:
    """So far: CPU of the boards, CPU of what was waited for here, bytes."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        sum(one.cpu() for one in at.cores),
        ended.ru_utime + ended.ru_stime,
        float(sum(one.wire() for one in at.cores)),
    )


def forget(at: Bench, ways: Mapping[str, object]) -> None:
    """The engines hold nothing, and the registry none of what was pushed."""
    at.prune()
    for way in ways:
        shutil.rmtree(at.registry.storage / "docker/registry/v2/repositories" / way, ignore_errors=True)


def told(found: list[Cost]) -> str:
    names = ("seconds", "cpu", "here", "bytes")
    taken, cpu, here, carried = (statistics.median(getattr(one, name) for one in found) for name in names)
    return f"{taken:7.2f} s  CPU {cpu:6.2f} s on boards {here:5.2f} s here  {carried / 1e6:8.3f} MB"


def against(way: str, costs: Mapping[str, list[Cost]], scenario: Scenario) -> str:
    """The ratios of ours to this way's, and whether a budget is kept."""
    if way == "archloom":
        return ""
    words = []
    for kind in ("seconds", "bytes"):
        found = compared(*([getattr(one, kind) for one in costs[name]] for name in ("archloom", way)))
        words.append(
            f"{kind} {found.ratio:.2f} ({found.least:.2f} to {found.greatest:.2f}){verdict(found, way, kind, scenario)}"
        )
    return f"  ours to it: {', '.join(words)}"


def verdict(found: Compared, way: str, kind: str, scenario: Scenario) -> str:
    budget = scenario.budgets.get((way, kind))
    if budget is None:
        return ""
    return f" of {budget}{'' if found.ratio <= budget else ': missed'}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engine", choices=[*ENGINES], default="debian12")
    chosen = parser.parse_args()
    main(chosen.scenarios, chosen.runs, chosen.engine)
