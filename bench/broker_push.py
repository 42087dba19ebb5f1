"""A layer pushed through the broker against the same layer pushed straight to docker-registry, by the same engine.

`python bench/broker_push.py [MEGABYTES] [PAIRS]`, 300 and 3 unless told. The registry asks for a password both ways.
Every push goes to a repository of its own and the registry is emptied after it, so that the whole layer travels every
time. The broker runs in a process of its own, as the coordinator does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.measure import compare, run
from coordinator.domain.image.references import Reference
from coordinator.domain.secrets import Credential, Secret
from tests.services.commands import Child

USER, PASSWORD, JOB = "bench", "bench password", "bench-1"


class Known:
    def credentials(self, registry: str) -> Credential:  # noqa: ARG002
        return Credential(username=USER, password=Secret(PASSWORD))


async def serve(registry: str, repositories: list[str]) -> None:
    """The broker until stdin ends. A grant for each repository, printed with the port as one JSON line."""
    from coordinator.broker.server import Broker
    from coordinator.publish.registry_pool import Registries
    from coordinator.publish.upstream import Upstream

    async with Registries({}, Known()) as registries, Broker(Upstream(registries)) as broker:
        server = await asyncio.start_server(broker, "127.0.0.1", 0)
        with contextlib.ExitStack() as stack:
            grants = [
                stack.enter_context(broker.grant(f"{JOB}-{name}", push=Reference(registry, f"bench/{name}")))
                for name in repositories
            ]
            secrets = {grant.job: grant.secret.reveal() for grant in grants}
            print(json.dumps({"port": server.sockets[0].getsockname()[1], "secrets": secrets}), flush=True)
            await asyncio.to_thread(sys.stdin.read)
        server.close()


@contextlib.contextmanager
def brokered(registry: str, repositories: list[str]) -> Iterator[dict[str, Any]]:
    command = [sys.executable, __file__, "serve", registry, *repositories]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        yield json.loads(process.line())
        process.stdin.close()


def login(folder: Path, authority: str, user: str, password: str) -> Path:
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {authority: {"auth": auth}}}), "utf-8")
    return folder


def noise(path: Path, megabytes: int) -> Path:
    """A tar of random bytes, which do not compress."""
    with tarfile.open(path, "w") as tar, Path("/dev/urandom").open("rb") as random:
        entry = tarfile.TarInfo("noise")
        entry.size = megabytes * 1_000_000
        tar.addfile(entry, random)
    return path


def measure(megabytes: int, pairs: int) -> str:
    from tests.services.registry import with_password

    image = f"archloom-bench/{uuid4().hex[:12]}:1"
    names = [uuid4().hex[:12] for _ in range(pairs + 1)]
    # The warm-up pair is one more.
    ours, theirs = iter(names), itertools.count()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        run(["docker", "import", str(noise(folder / "layer.tar", megabytes)), image])
        stack.callback(run, ["docker", "rmi", "-f", image])
        registry = stack.enter_context(with_password(folder / "registry", USER, PASSWORD))
        told = stack.enter_context(brokered(registry.address, names))
        direct = login(folder / "direct", registry.address, USER, PASSWORD)

        def push(config: Path, target: str) -> None:
            run(["docker", "tag", image, target])
            try:
                run(["docker", "--config", str(config), "push", "--quiet", target])
            finally:
                run(["docker", "rmi", target])
                run(["rm", "-rf", str(registry.storage / "docker")])

        def brokered_push() -> None:
            job = f"{JOB}-{next(ours)}"
            authority = f"127.0.0.1:{told['port']}"
            push(login(folder / "brokered", authority, job, told["secrets"][job]), f"{authority}/push:image")

        found = compare(
            brokered_push, lambda: push(direct, f"{registry.address}/direct/{next(theirs)}:image"), runs=pairs
        )
    return (
        f"brokered push of {megabytes} MB against direct push: {found}\n"
        f"throughput {1 / found.ratio:.2f} of a direct push's; the budget is 0.85"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", registry, *repositories]:
            asyncio.run(serve(registry, repositories))
        case words:
            size, count = [*map(int, words), *(300, 3)[len(words) :]]
            print(measure(size, count), file=sys.stdout)
