"""The same jobs on boards of every engine: Docker 20.10, and newer ones with a graph driver or containerd's store."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.acceptance.archloom import BEGUN, Home, context, eventually, follow, good
from tests.acceptance.leftovers import nothing_is_left
from tests.services.boards import Board
from tests.services.images import base_image, packed_file, push_image
from tests.services.judges import pulled, ran, skopeo_inspect
from tests.services.registry import Registry
from tests.services.ssh_home import forwarded, ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.board_engines, pytest.mark.registry, pytest.mark.usefixtures("emulation")]

MACHINES = {
    "linux/amd64": "x86_64",
    "linux/386": "x86_64",
    "linux/arm64": "aarch64",
    "linux/arm/v7": "armv7l",
    "linux/arm/v6": "armv7l",  # QEMU's default processor, whatever is asked for
}
ENGINES = ("docker20", "docker26", "graph", "stored", "serviced")
NEWER = ENGINES[1:]
Engines = Mapping[str, Board]
App = Callable[..., Path]


@pytest.fixture
def listed(home: Home, engines: Engines, request: pytest.FixtureRequest) -> Engines:
    """All of them, of which the user's inventory has the one the test is about, or all, as emulators."""
    ssh_home(home.folder, *engines.values())
    names = [request.getfixturevalue("host")] if "host" in request.fixturenames else engines
    lines = ["emulators:", *(f"  {name}: {{host: {name}, keep_built: 1s}}" for name in names)]
    (home.folder / "inventory.yaml").write_text("\n".join(lines) + "\n")
    return engines


@pytest.fixture
def app(registry: Registry, tmp_path: Path) -> App:
    """A context whose RUN executes code of each platform; no two are the same to an engine's cache."""
    base = base_image(registry, *MACHINES, repository="engines/base")

    def make(steps: str = "") -> Path:
        mark = secrets.token_hex(8)
        dockerfile = f"FROM {base.reference}\nCOPY data /data\nRUN echo {mark}; uname -m >/machine\n{steps}"
        return context(tmp_path / f"app-{mark}", dockerfile, {"data": mark * 1000})

    return make


def test_boards_of_all_engines_build_one_tag(listed, home, app, registry):
    """Each builds a platform of its own; both generations of docker and skopeo get every platform as it should be."""
    on = dict(zip(MACHINES, ENGINES, strict=True))
    words = [word for platform, host in on.items() for word in ("--on", f"{platform}={host}")]
    tag = f"{registry.address}/engines/all:1"

    done = good(home.run("build", str(app()), "-t", tag, "--platform", ",".join(MACHINES), *words, "--json"))

    found = json.loads(done.stdout)["archloom"]["platforms"]
    assert {platform: one["host"] for platform, one in found.items()} == on
    judge = listed["graph"]
    with forwarded(home.folder, judge, registry.address) as port:
        for platform, machine in MACHINES.items():
            _, architecture, *_ = platform.split("/")
            with pulled(tag, platform) as image:
                assert image["Architecture"] == architecture
                assert ran(tag, platform, "cat", "/machine").strip() == machine
            assert skopeo_inspect(tag, platform)["Architecture"] == architecture
            name = f"127.0.0.1:{port}/engines/all:1"
            judge.docker("pull", "--quiet", "--platform", platform, name)
            assert judge.docker("image", "inspect", "--format", "{{.Architecture}}", name).strip() == architecture
            judge.docker("rmi", name)
    for board in listed.values():
        nothing_is_left(board)


@pytest.mark.parametrize(
    ("host", "images"),
    [
        ("docker20", "/var/lib/docker"),
        ("docker26", "/var/lib/docker/containerd/daemon"),
        ("graph", "/var/lib/docker"),
        ("stored", "/var/lib/docker/containerd/daemon"),
        ("serviced", "/var/lib/containerd"),
    ],
)
def test_where_its_images_lie_is_shown(listed, home, host, images):
    """The folder of which the disk is watched."""
    [shown] = json.loads(good(home.run("boards", "--json")).stdout)

    assert shown["engine"]["images"] == images
    assert listed[host].run(f"ls -d {images}").strip() == images


@pytest.mark.parametrize("host", ENGINES)
def test_it_builds_pushes_and_is_reused(listed, home, app, registry, host):
    """Its own platform and a foreign one; the second time no host is touched and the digest is the same."""
    board = listed[host]
    tag = f"{registry.address}/engines/{host}:1"
    words = ("build", str(app()), "-t", tag, "--platform", "linux/amd64,linux/arm/v7", "--on", host, "--json")

    done = good(home.run(*words))
    nothing_is_left(board)
    board.unplug()
    again = json.loads(good(home.run(*words)).stdout)

    assert "lost" not in done.stderr.lower()
    assert again["containerimage.digest"] == json.loads(done.stdout)["containerimage.digest"]
    assert [one["reused"] for one in again["archloom"]["platforms"].values()] == [True, True]
    with pulled(tag, "linux/arm/v7"):
        assert ran(tag, "linux/arm/v7", "cat", "/machine").strip() == "armv7l"


def by_api(home: Home, app: App, tag: str, host: str) -> CompletedProcess[str]:
    """As a board without a command line builds."""
    (home.folder / "inventory.yaml").write_text(f"emulators: {{{host}: {{host: {host}, engine: api}}}}\n")
    return home.run("build", str(app()), "-t", tag, "--platform", "linux/amd64,linux/arm64")


@pytest.mark.parametrize("host", ENGINES)
def test_an_image_of_one_platform_is_a_source_there(listed, home, registry, tmp_path, host):
    """A single amd64 manifest, copied from and built on for arm64, wherever the engine keeps its images."""
    amd64 = {"os": "linux", "architecture": "amd64"}
    for name in ("tool", "plain"):
        push_image(registry, f"engines/{name}", amd64, packed_file(name, name.encode()), target="1")
    at = f"{registry.address}/engines"
    busybox = base_image(registry, "linux/arm64", repository="engines/arm64")
    copies = f"COPY --from={at}/tool:1 /tool /\nFROM {busybox.reference}\nCOPY --from=plain / /\n"
    text = f"FROM {at}/plain:1 AS plain\n{copies}"
    folder, tag = context(tmp_path / "app", text), f"{at}/single-{host}:1"

    good(home.run("build", str(folder), "-t", tag, "--platform", "linux/arm64"))

    with pulled(tag, "linux/arm64"):
        assert ran(tag, "linux/arm64", "cat", "/tool", "/plain") == "toolplain"


def test_an_engine_that_would_lose_the_context_is_not_driven_by_its_api(listed, home, app, registry):
    """Before 27.5, with containerd's store: the plan says what it can be driven by."""
    done = by_api(home, app, f"{registry.address}/engines/api-docker26:1", "docker26")

    assert done.returncode == 3, done.stderr
    assert "docker26: the inventory says engine: api, and its engine can be driven by buildx only" in done.stderr


@pytest.mark.parametrize("host", ["graph", "stored", "serviced"])
def test_the_engine_api_builds_there_too(listed, home, app, registry, host):
    """Where it finds the context."""
    tag = f"{registry.address}/engines/api-{host}:1"

    done = good(by_api(home, app, tag, host))

    assert "lost" not in done.stderr.lower()
    assert skopeo_inspect(tag, "linux/arm64")["Architecture"] == "arm64"
    nothing_is_left(listed[host])


@pytest.mark.parametrize("host", NEWER)
def test_a_build_that_is_cancelled_leaves_nothing(listed, home, app, registry, host):
    """Exit 130; the step's process is gone from the board, and the engine and the agent hold nothing of it."""
    board, seconds = listed[host], str(secrets.randbelow(10**9) + 10**8)
    folder = app(f"RUN echo begun; sleep {seconds}\n")
    tag = f"{registry.address}/engines/cancelled:1"
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64", "--on", host)
    seen = follow(process, BEGUN)

    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]

    assert process.returncode == 130, seen + rest
    assert board.run(f"pgrep -f '[s]leep {seconds}' || true") == ""
    nothing_is_left(board)


@pytest.mark.parametrize("host", NEWER)
def test_a_prune_under_a_build_costs_a_try_at_most(listed, home, app, registry, host):
    """Somebody tidies up while a step runs: what went with it is fetched or built again, and the tag comes."""
    board = listed[host]
    folder = app("RUN echo begun; sleep 4\n")
    tag = f"{registry.address}/engines/pruned:1"
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64", "--on", host)
    seen = follow(process, BEGUN)

    board.docker("system", "prune", "--all", "--force")
    assert board.held() == [], "the base is still there, and so nothing was tried"
    rest = process.communicate(timeout=120)[1]

    assert process.returncode == 0, seen + rest
    nothing_is_left(board)


@pytest.mark.parametrize("host", NEWER)
def test_what_a_dead_coordinator_left_is_swept(listed, home, app, registry, host):
    """Built and never fetched, its image and bases go with the first run after `keep_built`."""
    board = listed[host]
    words = ("--platform", "linux/amd64", "--on", host)
    process = home.start(
        "build", str(app("RUN echo begun; sleep 1\n")), "-t", f"{registry.address}/engines/x:1", *words
    )
    follow(process, BEGUN)
    process.kill()
    process.communicate(timeout=60)
    [job] = [folder.name for folder in board.jobs()]
    run = job.partition("-")[0]
    board.run(f"until ls {board.spec.home}/.local/state/archloom-agent/*/jobs/{job}/result.json; do sleep 0.1; done")
    assert [name for name in board.held() if name.startswith(f"archloom/{run}")]
    board.run("sleep 1.2")

    good(home.run("build", str(app()), "-t", f"{registry.address}/engines/y:1", *words))

    nothing_is_left(board)


@pytest.mark.parametrize("host", NEWER)
def test_a_purge_takes_what_was_built(listed, home, app, registry, host):
    """The image of a run that died, its base, the agent and its folders go; what is the owner's stays."""
    board = listed[host]
    tag = f"{registry.address}/engines/purged:1"
    process = home.start(
        "build", str(app("RUN echo begun; sleep 1\n")), "-t", tag, "--on", host, "--platform", "linux/amd64"
    )
    follow(process, BEGUN)
    process.kill()
    process.communicate(timeout=60)
    eventually(lambda: any(name.startswith("archloom/") for name in board.held()))
    board.docker("tag", next(name for name in board.held() if name.startswith("localhost:1/")), "mine/base:1")
    try:
        good(home.run("boards", "remove", host, "--purge", "--yes"))

        assert (board.held(), board.jobs()) == ([], [])
        assert "mine/base:1" in board.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        assert board.run(f"find {board.spec.home} /run/lock -name '*archloom*'") == ""
    finally:
        board.docker("rmi", "mine/base:1")
