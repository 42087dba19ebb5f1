"""What one dead board of three costs a build: the first run after it died, and the next within the minute.

`python bench/dead_board.py [RUNS]`, 5 unless told. A tiny image for the two platforms of the two sound boards, nothing
of it reused. The third board's cable is pulled: packets vanish, and nobody refuses anything.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.lab import Bench, bench
from bench.measure import seconds
from tests.services.board_spec import BoardSpec
from tests.services.images import base_image

SOUND = {"pi-a": "linux/amd64", "pi-b": "linux/386"}
DEAD = "pi-c"


def main(runs: int) -> None:
    specs = [BoardSpec(name=name) for name in SOUND]
    with bench(*specs, BoardSpec(name=DEAD, engine=False)) as at:
        at.boards[2].unplug()
        base = base_image(at.registry, *SOUND.values())
        context = at.folder / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM {base.reference}\nRUN uname -m >/made\n")
        numbers = itertools.count()

        def build() -> None:
            words = ["-t", f"{at.registry.address}/app:1", "--platform", ",".join(SOUND.values())]
            at.archloom("build", str(context), *words, "--label", f"bench={next(numbers)}")

        # The dead one could take a job as well as the others, as far as anybody knows.
        everybody = {**SOUND, DEAD: ""}
        at.inventory(SOUND)
        build()
        rounds = []
        for _ in range(runs):
            forget(at)
            at.inventory(SOUND)
            without = seconds(build)
            at.inventory(everybody)
            rounds.append((without, seconds(build), seconds(build)))
        for name, column in zip(("without it", "first run", "next run"), zip(*rounds, strict=True), strict=True):
            print(f"{name}: {statistics.median(column):.2f} s (from {min(column):.2f} to {max(column):.2f})")
        for name, position in (("first run", 1), ("next run", 2)):
            lost = [one[position] - one[0] for one in rounds]
            print(f"lost by the {name}: {statistics.median(lost):.2f} s (from {min(lost):.2f} to {max(lost):.2f})")


def forget(at: Bench) -> None:
    """What earlier runs found out about the hosts."""
    shutil.rmtree(at.home.state)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 5)
