"""Three ways to build a folder for several platforms on boards and to publish one tag: archloom's and two others.

The others have a registry that the boards reach, through a tunnel that is open before anything is timed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.lab import Bench
from bench.measure import run
from tests.services.boards import Board
from tests.services.commands import Child, run_limited
from tests.services.paths import ROOT
from tests.services.ssh_home import ssh_command

# The distribution's, which a board would have: it builds with the BuildKit of the engine.
DOCKER = "/usr/bin/docker"
# With attestations an image is an index, which `docker manifest` does not take.
_BUILD = f"DOCKER_BUILDKIT=1 BUILDX_NO_DEFAULT_ATTESTATIONS=1 {DOCKER} build"
_UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

# Board names and the platforms that each builds.
Layout = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Archloom:
    """The command as a user runs it, over SSH; the boards need no registry."""

    at: Bench
    layout: Layout

    def build(self, context: Path) -> None:
        platforms = ",".join(platform for each in self.layout.values() for platform in each)
        self.at.archloom("build", str(context), "-t", f"{self.at.registry.address}/archloom:1", "--platform", platforms)


@dataclass(frozen=True, slots=True)
class Shell:
    """The folder by rsync, `ssh board docker build` and push on all boards at once, then `docker manifest`."""

    at: Bench
    layout: Layout

    def build(self, context: Path) -> None:
        tag = f"{self.at.registry.address}/shell:1"
        children = [f"{tag}-{platform.replace('/', '-')}" for each in self.layout.values() for platform in each]
        manifest = f"{DOCKER} manifest create --insecure {tag} {' '.join(children)} >/dev/null"
        publish = f"{DOCKER} manifest push --insecure --purge {tag}"
        jobs = [self._on(name, platforms, context, tag) for name, platforms in self.layout.items()]
        lines = [*(f'({job}) &\nids="$ids $!"' for job in jobs), "for id in $ids; do wait $id; done", manifest, publish]
        environment = {"DOCKER_CONFIG": str(self.at.home.folder / ".docker"), "DOCKER_CLI_EXPERIMENTAL": "enabled"}
        run(["sh", "-e", "-c", "\n".join(lines)], environment)

    def _on(self, name: str, platforms: tuple[str, ...], context: Path, tag: str) -> str:
        ssh = " ".join(ssh_command(self.at.home.folder, *self.at.boards))
        copy = f"bench-{context.name}"
        there = " && ".join(
            f"{_BUILD} -q --platform {platform} -t {image} {copy} && {DOCKER} push -q {image}"
            for platform in platforms
            for image in [f"{tag}-{platform.replace('/', '-')}"]
        )
        return f'rsync --archive --delete --rsh "{ssh}" {context}/ {name}:{copy}/ && {ssh} {name} "{there}" >/dev/null'


@dataclass(frozen=True, slots=True)
class Raw:
    """`ssh board docker build` on all boards at once, of the folder that the shell way left there; no push."""

    at: Bench
    layout: Layout

    def build(self, context: Path) -> None:
        ssh = " ".join(ssh_command(self.at.home.folder, *self.at.boards))
        lines = []
        for name, platforms in self.layout.items():
            there = " && ".join(f"{_BUILD} -q --platform {one} bench-{context.name}" for one in platforms)
            lines.append(f'({ssh} {name} "{there}" >/dev/null) &\nids="$ids $!"')
        run(["sh", "-e", "-c", "\n".join([*lines, "for id in $ids; do wait $id; done"])])


@dataclass(frozen=True, slots=True)
class Buildx:
    """Debian's newest buildx, with a builder whose nodes are the BuildKits of the boards, which push by themselves."""

    at: Bench
    command: tuple[str, ...]
    environment: Mapping[str, str]
    platforms: str

    def build(self, context: Path) -> None:
        tag = f"{self.at.registry.address}/buildx:1"
        words = ["build", "--provenance=false", "--push", "--platform", self.platforms, "-t", tag, str(context)]
        run([*self.command, *words], self.environment)


@contextmanager
def tunnels(at: Bench) -> Iterator[None]:
    """The registry is on each board's loopback as it is here, and `NAME.docker` below the bench is its engine."""
    with ExitStack() as stack:
        for one in at.boards:
            login, target = at.ssh(one)[:-1], at.folder / f"{one.name}.docker"
            words = [*login, "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{target}:/run/docker.sock", one.name]
            child = stack.enter_context(Child(words, stdin=subprocess.DEVNULL))
            stack.callback(child.end)
            _until_there(target, one)
        yield


@contextmanager
def buildx(at: Bench, layout: Layout) -> Iterator[Buildx]:
    """A builder with a node for each board, for its platforms: remote ones, as BuildKit's own daemon would be.

    Debian has no package of that daemon. The engine has one inside, behind an upgrade of its HTTP connection.
    """
    environment = {"DOCKER_CONFIG": str(at.home.folder / "buildx")}
    command = (newest_buildx(), "--builder", "bench")
    with ExitStack() as stack:
        for number, (name, platforms) in enumerate(layout.items()):
            address = at.folder / f"{name}.buildkit"
            stack.enter_context(_buildkit(address, at.folder / f"{name}.docker"))
            create = [command[0], "create", "--name", "bench", "--node", name, "--driver", "remote"]
            more = ["--append"] if number else []
            run([*create, *more, "--platform", ",".join(platforms), f"unix://{address}"], environment)
        yield Buildx(at, command, environment, ",".join(platform for each in layout.values() for platform in each))
        run([command[0], "rm", "bench"], environment)


def newest_buildx() -> str:
    """Debian sid's, fetched once into ~/.cache/archloom."""
    arch = run(["dpkg", "--print-architecture"]).strip()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "archloom/buildx/sid", arch)
    run([str(ROOT / "scripts" / "fetch-deb"), "sid", "docker-buildx", arch, str(folder)])
    return str(folder / "usr/libexec/docker/cli-plugins/docker-buildx")


@contextmanager
def _buildkit(address: Path, engine: Path) -> Iterator[None]:
    """A socket where the engine's BuildKit speaks gRPC."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()
        threading.Thread(target=_serve, args=(server, engine), daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)
    address.unlink()


def _serve(server: socket.socket, engine: Path) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(target=_relay, args=(server.accept()[0], engine), daemon=True).start()


def _relay(client: socket.socket, engine: Path) -> None:
    upstream = socket.socket(socket.AF_UNIX)
    with client, upstream, suppress(OSError):
        upstream.connect(str(engine))
        upstream.sendall(_UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := upstream.recv(1)):
            head += byte
        threading.Thread(target=_copy, args=(client, upstream), daemon=True).start()
        _copy(upstream, client)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _until_there(path: Path, where: Board) -> None:
    command = f"until [ -S {path} ]; do sleep 0.05; done"
    if run_limited(["timeout", "30", "sh", "-c", command]).returncode:
        raise SystemExit(f"{where.name} forwards nothing")
