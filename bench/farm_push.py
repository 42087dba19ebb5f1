"""A large layer pushed by a board through the tunnel and the broker, against `docker push` through `ssh -R`.

`python bench/farm_push.py [MEGABYTES] [PAIRS]`, 300 and 3 unless told; with the cipher that the transport chooses
where the CPU has AES instructions, and with the usual one. Every push goes to a repository of its own.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.broker_push import Known, login, noise
from bench.lab import Bench, bench
from bench.measure import compare
from bench.ways import DOCKER
from coordinator.broker.server import Broker
from coordinator.domain.hosts.inventory import Address, Host, Kind
from coordinator.domain.image.references import Reference
from coordinator.hosts.agent.bundle import bundle
from coordinator.hosts.agent.client import connect
from coordinator.hosts.ssh.bootstrap import AgentFile
from coordinator.hosts.ssh.login_limiter import LoginLimiter
from coordinator.hosts.ssh.transport import SshTransport
from coordinator.publish.registry_pool import Registries
from coordinator.publish.upstream import Upstream
from tests.services.board_spec import BoardSpec
from tests.services.commands import Child

CIPHERS = {"aes128-gcm@openssh.com": "AES in hardware", "chacha20-poly1305@openssh.com": "ChaCha20"}
_IMAGE = "archloom-bench:1"


async def brokered(at: Bench, cipher: str) -> None:
    """One push as a run makes it, with the board's own docker in the agent's place."""
    [where] = at.boards
    host = Host(name=where.name, kind=Kind.BOARD, address=Address(where.name))
    transport = SshTransport(host, AgentFile(bundle(at.environment)), LoginLimiter())
    client = await connect(transport)
    transport._cipher = cipher  # noqa: SLF001 - chosen by the CPU otherwise
    try:
        async with Registries({}, Known()) as registries, Broker(Upstream(registries)) as broker:
            target = Reference(at.registry.address, f"ours/{uuid4().hex[:12]}")
            with broker.grant("bench", push=target) as grant:
                tunnel = await transport.listen(broker)
                authority = f"127.0.0.1:{tunnel.port}"
                login(where.home / "docker", authority, grant.job, grant.secret.reveal())
                await asyncio.to_thread(push, at, f"{authority}/{grant.repository}:image", "--config /root/docker")
                await tunnel.close()
    finally:
        await client.close()
        await transport.close()


def push(at: Bench, target: str, options: str = "") -> None:
    [where] = at.boards
    where.run(f"{DOCKER} tag {_IMAGE} {target}; {DOCKER} {options} push -q {target} && {DOCKER} rmi {target}")


def forwarded(at: Bench, cipher: str) -> None:
    """The same with OpenSSH's client in the middle."""
    [where] = at.boards
    tunnel = [*at.ssh(where)[:-1], "-c", cipher, "-o", "ExitOnForwardFailure=yes", where.name, "echo open; cat"]
    with Child(tunnel, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ssh:
        if ssh.line() != "open\n":
            raise SystemExit(f"{shlex.join(tunnel)} forwards nothing")
        push(at, f"{at.registry.address}/theirs/{uuid4().hex[:12]}:image")
        # The engine keeps its connections to the registry, and ssh does not end before they do.
        ssh.terminate()


def main(megabytes: int, pairs: int) -> None:
    with bench(BoardSpec(name="pi-a")) as at:
        os.environ.update(at.environment)
        layer = noise(at.folder / "layer.tar", megabytes)
        at.boards[0].docker("import", str(layer), _IMAGE)

        def empty() -> None:
            shutil.rmtree(at.registry.storage / "docker", ignore_errors=True)

        for cipher, name in CIPHERS.items():
            found = compare(
                lambda cipher=cipher: asyncio.run(brokered(at, cipher)),  # type: ignore[misc]
                lambda cipher=cipher: forwarded(at, cipher),  # type: ignore[misc]
                runs=pairs,
                before=empty,
            )
            ours, theirs = megabytes / found.ours, megabytes / found.theirs
            print(f"{name}, {megabytes} MB: {found}; {ours:.0f} against {theirs:.0f} MB/s")


if __name__ == "__main__":
    words = sys.argv[1:]
    size, count = [*map(int, words), *(300, 3)[len(words) :]]
    main(size, count)
