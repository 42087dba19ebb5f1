"""Nothing has changed: four platforms found again, against one platform built again by docker from its cache.

Ours looks at the context, asks the registry for the bases and the four pins, verifies the four images and finds the tag
where it should be; it has no engine to ask, so no host is touched. Theirs is `docker build` and `docker buildx build`
of the native platform alone, once without and once with the push that says that everything is there.
`python bench/rebuild.py [RUNS]`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import compare, run
from tests.services.engine import require_emulation
from tests.services.images import base_image
from tests.services.registry import plain

ROOT = Path(__file__).parent.parent
ARCHLOOM = str(Path(sys.executable).with_name("archloom"))
DOCKER = "/usr/bin/docker"
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")
NATIVE = "linux/amd64"
NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent.sock"}
DOCKERFILE = "FROM {base}\nCOPY . /app\nRUN uname -m >/machine\n"


def main(runs: int) -> None:
    require_emulation(*PLATFORMS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ.update(HOME=str(folder), ARCHLOOM_INVENTORY=str(folder / "inventory.yaml"))
        (folder / "inventory.yaml").write_text("emulators: {here: local}\n")
        install_buildx(folder)
        with plain(folder / "registry") as registry:
            base = base_image(registry, *PLATFORMS)
            for name, files, size in (("small", 1, 8 << 20), ("wide", 10_000, 5_000)):
                context = folder / name
                make_context(context, base.reference, files, size)
                print(f"{files} files, {files * size >> 20} MiB:")
                measure(str(context), f"{registry.address}/{name}", runs)


def measure(context: str, repository: str, runs: int) -> None:
    words = [ARCHLOOM, "build", context, "-t", f"{repository}/ours:1", "--platform", ",".join(PLATFORMS)]
    tag = f"{repository}/theirs:1"
    build = [DOCKER, "build", "-q", "-t", tag, "--platform", NATIVE, context]
    buildx = [DOCKER, "buildx", "--builder", "default", "build", "-q", "-t", tag, "--platform", NATIVE, context]
    run(words)

    def ours() -> None:
        run(words, NO_ENGINE)

    def theirs(command: list[str], *, push: bool) -> Callable[[], None]:
        def work() -> None:
            run(command, {"DOCKER_BUILDKIT": "1"})
            if push:
                run([DOCKER, "push", "-q", tag])

        return work

    for name, command in (("docker build", build), ("docker buildx build", buildx)):
        for push in (False, True):
            found = compare(ours, theirs(command, push=push), runs=runs)
            print(f"  four platforms against one by {name}{' and docker push' if push else ''}: {found}")


def make_context(folder: Path, base: str, files: int, size: int) -> None:
    """Files of random bytes, a hundred to a folder."""
    for number in range(files):
        path = folder / str(number // 100) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))


def install_buildx(home: Path) -> None:
    """Debian's, as this user's plugin."""
    fetched = run([str(ROOT / "scripts" / "fetch-buildx")])
    plugins = home / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(fetched.strip())


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 7)
