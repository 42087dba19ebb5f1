"""What 20 builds with one change each leave on a board: in the engine's build cache, and on its disk.

`python bench/cache_growth.py [BUILDS]`, 20 unless told. archloom builds on one board, `ssh docker build` of an rsynced
folder on another. 20 MB lie still, and a file of 100 kB is another each time: each build needs that much more. The
first build is not counted.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.lab import Bench
from bench.measure import run
from bench.ratios import boards
from bench.scenarios import files, noise
from bench.ways import Archloom, Layout, Shell, tunnels
from tests.services.boards import Board
from tests.services.images import base_image

PLATFORM = "linux/amd64"
CHANGED = 100_000
_DOCKERFILE = "FROM {base}\nCOPY still /still\nCOPY data /data\n"


def main(builds: int) -> None:
    with boards("debian12") as at, tunnels(at):
        base = base_image(at.registry, PLATFORM)
        context = at.folder / "context"
        files(context / "still", 200, 100_000)
        (context / "Dockerfile").write_text(_DOCKERFILE.format(base=base.reference))
        ours, theirs = at.boards
        grown(at, "archloom", ours, context, builds)
        grown(at, "shell", theirs, context, builds)


def grown(at: Bench, name: str, where: Board, context: Path, builds: int) -> None:
    layout: Layout = {where.name: (PLATFORM,)}
    at.inventory({where.name: PLATFORM})
    way = Archloom(at, layout) if name == "archloom" else Shell(at, layout)
    before: Counter[str] = Counter()
    for number in range(builds + 1):
        noise(context / "data", CHANGED)
        way.build(context)
        if not number:
            before = held(where)
    after = held(where)
    print(f"{name}: after {builds} builds with {CHANGED / 1e6} MB changed in each, in MB, a build:", flush=True)
    for what in sorted(after | before):
        print(f"  {what:30} {(after[what] - before[what]) / builds / 1e6:9.3f}", flush=True)


def held(where: Board) -> Counter[str]:
    """Bytes by kind: records of the build cache, and what the disk has below the engine's data and the login's home."""
    found: Counter[str] = Counter()
    sizes = run(["curl", "-fsS", "--unix-socket", str(where.engine_socket), "http://docker/system/df"])
    for record in json.loads(sizes)["BuildCache"] or ():
        found[f"cache, {record['Type']}"] += 0 if record["Shared"] else record["Size"]
        found["cache, in all"] += record["Size"]
    for what, place in (("disk, engine", "/var/lib/docker"), ("disk, home", where.spec.home)):
        found[what] = int(where.run(f"du -sx --block-size=1 {place}").split()[0])
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20)
