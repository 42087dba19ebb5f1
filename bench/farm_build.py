"""A build on two boards against the slower of two raw `ssh board docker build` and `docker push`, on the same boards.

`python bench/farm_build.py [RUNS] [WORK]`, 5 and 60 unless told. Each board builds one platform: work of a few seconds
(60 times the sums of 8 MB) and a layer of some MB. The raw way sends the context by tar through ssh and pushes through
the `ssh -R` of the same connection, to the same registry. Cold: the engines hold nothing. Cached: they hold every step,
and a new label makes it a new image.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.lab import Bench, bench
from bench.measure import compare
from tests.services.board_spec import BoardSpec
from tests.services.boards import Board
from tests.services.images import base_image

PLATFORMS = {"pi-a": "linux/amd64", "pi-b": "linux/386"}
BUDGET = 1.15
# The distribution's, which a board would have: it builds with the BuildKit of the engine.
DOCKER = "/usr/bin/docker"
_DOCKERFILE = """\
FROM {base}
COPY data /data
RUN for n in {numbers}; do sha256sum /data/*; done >/sums; uname -m >>/sums
RUN cat /data/0 /data/1 >/layer
"""


def main(runs: int, work: int) -> None:
    with bench(*(BoardSpec(name=name) for name in PLATFORMS)) as at:
        at.inventory(PLATFORMS)
        base = base_image(at.registry, *PLATFORMS.values())
        context = make_context(at.folder / "context", base.reference, work)
        numbers = itertools.count()

        def ours() -> None:
            tag = f"{at.registry.address}/ours:1"
            label = f"bench={next(numbers)}"
            at.archloom("build", str(context), "-t", tag, "--platform", ",".join(PLATFORMS.values()), "--label", label)

        def theirs() -> None:
            raw(at, context, f"bench={next(numbers)}")

        found = compare(ours, theirs, runs=runs, before=lambda: forget(at))
        print(f"cold: {found}; the budget is {BUDGET}")
        print(f"cached: {compare(ours, theirs, runs=runs)}")


def make_context(folder: Path, base: str, work: int) -> Path:
    """8 MB that do not compress, and work for one CPU."""
    (folder / "data").mkdir(parents=True)
    for number in range(4):
        (folder / "data" / str(number)).write_bytes(os.urandom(2_000_000))
    numbers = " ".join(map(str, range(work)))
    (folder / "Dockerfile").write_text(_DOCKERFILE.format(base=base, numbers=numbers))
    return folder


def forget(at: Bench) -> None:
    """The engines hold nothing, and the registry none of what was pushed."""
    at.prune()
    for name in ("ours", "theirs"):
        subprocess.run(["rm", "-rf", str(at.registry.storage / f"docker/registry/v2/repositories/{name}")], check=True)


def raw(at: Bench, context: Path, label: str) -> None:
    """Both at once, as somebody would with two terminals."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda one: raw_build(at, one, context, label), at.boards))


def raw_build(at: Bench, where: Board, context: Path, label: str) -> None:
    tag = f"{at.registry.address}/theirs:{where.name}"
    build = f"DOCKER_BUILDKIT=1 {DOCKER} build -q --platform {PLATFORMS[where.name]} --label {label} -t {tag} -"
    command = [*at.ssh(where), f"{build} && {DOCKER} push -q {tag} && echo pushed"]
    # The engine keeps its connections to the registry, and ssh does not end before they do: not waited for.
    with (
        subprocess.Popen(["tar", "-C", str(context), "-c", "."], stdout=subprocess.PIPE) as tar,
        subprocess.Popen(command, stdin=tar.stdout, stdout=subprocess.PIPE, text=True) as ssh,
    ):
        assert ssh.stdout is not None
        said = list(itertools.takewhile(lambda line: line != "pushed\n", ssh.stdout))
        if ssh.poll() is not None:
            raise SystemExit(f"{shlex.join(command)}\n{''.join(said)}")
        ssh.terminate()


if __name__ == "__main__":
    words = sys.argv[1:]
    count, times = [*map(int, words), *(5, 60)[len(words) :]]
    main(count, times)
