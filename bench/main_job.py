"""The main job against the raw commands it replaces, on this machine and a registry started for it.

A cached rebuild of two platforms (a new label makes each a new build, all layers cached) against two
`docker build` and `docker push`; the same build again, reused; peak memory with a context of 200 MB.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import compare, peak_memory, run, seconds
from tests.services.engine import require_emulation
from tests.services.images import base_image
from tests.services.registry import plain

ARCHLOOM = str(Path(sys.executable).with_name("archloom"))
DOCKER = "/usr/bin/docker"
PLATFORMS = ("linux/amd64", "linux/arm64")
BUILDKIT = {"DOCKER_BUILDKIT": "1"}


def main() -> None:
    require_emulation(*PLATFORMS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ.update(HOME=str(folder), ARCHLOOM_INVENTORY=str(folder / "inventory.yaml"))
        (folder / "inventory.yaml").write_text("emulators: {here: local}\n")
        with plain(folder / "registry") as registry:
            base = base_image(registry, *PLATFORMS)
            context = folder / "context"
            context.mkdir()
            (context / "Dockerfile").write_text(f"FROM {base.reference}\nCOPY data /\nRUN sha256sum /data >/sum\n")
            (context / "data").write_bytes(os.urandom(8 * 1024 * 1024))
            rebuild(str(context), registry.address)
            reuse(str(context), registry.address)
            memory(context, registry.address)


def rebuild(context: str, address: str) -> None:
    numbers = itertools.count()
    platforms = ",".join(PLATFORMS)

    def ours() -> None:
        label = f"bench={next(numbers)}"
        run([ARCHLOOM, "build", context, "-t", f"{address}/ours:1", "--platform", platforms, "--label", label])

    def theirs() -> None:
        label = f"bench={next(numbers)}"
        for platform in PLATFORMS:
            tag = f"{address}/theirs:{platform.rpartition('/')[2]}"
            run([DOCKER, "build", "-q", "-t", tag, "--platform", platform, "--label", label, context], BUILDKIT)
            run([DOCKER, "push", "-q", tag])

    print(f"cached rebuild of two platforms against docker build + push: {compare(ours, theirs)}")


def reuse(context: str, address: str) -> None:
    words = [ARCHLOOM, "build", context, "-t", f"{address}/reused:1", "--platform", ",".join(PLATFORMS)]
    run(words)
    again = sorted(seconds(lambda: run(words)) for _ in range(5))
    print(f"the same build again, reused: {again[2]:.3f} s (from {again[0]:.3f} to {again[-1]:.3f})")


def memory(context: Path, address: str) -> None:
    words = [ARCHLOOM, "build", str(context), "-t", f"{address}/large:1", "--platform", "linux/amd64"]
    small = peak_memory([*words, "--label", "size=small"])
    # In pieces: a child's peak begins with what its parent held when it was started.
    with (context / "large").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(1024 * 1024))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY large /\n")
    large = peak_memory([*words, "--label", "size=large"])
    print(f"peak memory of coordinator or agent: {small >> 20} MiB with 8 MB, {large >> 20} MiB with 208 MB of context")


if __name__ == "__main__":
    main()
