"""Peak memory of the coordinator and of the agent with a context of 1 GB, against one of 1 MB.

`python bench/context_memory.py [MEGABYTES]`, 1000 unless told: half of it one file, half files of 100 kB; all of it is
taken. The agent's processes are read every 20 ms, each by its own peak.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.board_core import Core
from bench.lab import Bench
from bench.measure import peak_memory
from bench.ratios import boards
from bench.scenarios import files, noise
from tests.acceptance.archloom import COMMAND
from tests.services.images import base_image

PLATFORM = "linux/amd64"
_DOCKERFILE = "FROM {base} AS compile\nCOPY . /src\nFROM {base}\nCOPY --from=compile /src/Dockerfile /\n"


def main(megabytes: int) -> None:
    with boards("debian12") as at:
        base = base_image(at.registry, PLATFORM)
        at.inventory({"pi-a": PLATFORM})
        for size in (1, megabytes):
            context = at.folder / f"context-{size}"
            noise(context / "one", size * 500_000)
            files(context / "many", size * 5, 100_000)
            (context / "Dockerfile").write_text(_DOCKERFILE.format(base=base.reference))
            peaks(at, context, size)


def peaks(at: Bench, context: Path, size: int) -> None:
    tag = f"{at.registry.address}/memory:1"
    with watched(at.cores[0]) as agent:
        ours = peak_memory([COMMAND, "build", str(context), "-t", tag, "--platform", PLATFORM], at.environment)
    found = ", ".join(f"{name} {peak >> 20} MiB" for name, peak in sorted(agent.items()))
    print(f"{size} MB of context: coordinator {ours >> 20} MiB; agent: {found}", flush=True)


@contextmanager
def watched(core: Core) -> Iterator[dict[str, int]]:
    """The peak of each of the agent's commands (`serve`, `context`, `job`) in bytes, up to the block's end."""
    found: dict[str, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for pid in core.processes():
                with suppress(OSError, StopIteration, IndexError):
                    words = Path(f"/proc/{pid}/cmdline").read_text().strip("\0").split("\0")
                    name = words[next(at for at, word in enumerate(words) if word.endswith(".pyz")) + 1]
                    status = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
                    found[name] = max(found.get(name, 0), int(status[0]) << 10 if status else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join(10)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
