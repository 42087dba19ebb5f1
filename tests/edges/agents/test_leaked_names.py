"""Names that pushes and pulls gave to images and could not remove: a later run does, and touches nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.engine import engines, images
from agents.engine.engine_api import target
from agents.engine.engine_stream import Stream
from agents.engine.leaked_names import name_in_use, remove_leaked, tunnel_names
from tests.edges.agents.engine_bed import job
from tests.services.images import base_image
from tests.services.registry import plain

pytestmark = pytest.mark.engine

DIGEST = "@sha256:" + "0" * 64


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """One that nobody listens on, and one that somebody does."""
    with socket.create_server(("127.0.0.1", 0)) as live, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        yield dead.getsockname()[1], live.getsockname()[1]


def test_only_names_of_dead_tunnels_go(tmp_path: Path, ports: tuple[int, int]):
    """Whoever pushes through a live port now keeps his; the user's own names are not archloom's."""
    dead, live = ports
    leaked = f"127.0.0.1:{dead}/push:0a1b2c3d-amd64-1"
    used = f"127.0.0.1:{live}/push:0a1b2c3d-armv7-2"
    own = (f"127.0.0.1:{dead}/push:latest", f"127.0.0.1:{dead}/app:0a1b2c3d-amd64-1", f"127.0.0.1:{dead}/amd64base0:1")
    engine = engines.local_engine()
    with job(tmp_path, "api", "FROM scratch\nCOPY busybox /b\n") as made:
        assert made.run()["state"] == "BUILT"
        for name in (leaked, used, *own):
            images.tag(engine, made.spec.image, name)
        try:
            assert name_in_use(engine) == used
            assert leaked in remove_leaked(engine)

            assert images.inspect(engine, leaked) is None
            assert all(images.inspect(engine, name) for name in (used, *own, made.spec.image))
        finally:
            for name in (leaked, used, *own):
                images.untag(engine, name)


@pytest.mark.registry
def test_a_base_of_a_dead_tunnel_goes(tmp_path: Path):
    """A pull by digest names it, and the agent renames it; in between the agent may be killed."""
    engine = engines.local_engine()
    with plain(tmp_path) as registry:
        digest = base_image(registry, "linux/amd64", repository="amd64base0", more=tmp_path.name.encode()).digest
        name = f"{registry.address}/amd64base0"
        for _ in Stream(engine.path).post(target("/images/create", {"fromImage": name, "tag": digest}), {}):
            pass
        assert f"{name}@{digest}" not in remove_leaked(engine)
        assert images.inspect(engine, f"{name}@{digest}")

    assert f"{name}@{digest}" in remove_leaked(engine)
    assert images.inspect(engine, f"{name}@{digest}") is None


@pytest.mark.parametrize(
    ("tags", "digests", "leaked"),
    [
        (None, [f"127.0.0.1:5/arm64base0{DIGEST}"], [0]),
        (["<none>:<none>"], [f"127.0.0.1:5/armv7base12{DIGEST}"], [0]),
        ([], [f"127.0.0.1:5/database0{DIGEST}", f"127.0.0.1:5/push{DIGEST}", f"nas.lan:5/arm64base0{DIGEST}"], []),
        (["archloom/0a1b2c3d:arm64-1"], [f"127.0.0.1:5/push{DIGEST}"], [0]),
        (["127.0.0.1:5/push:0a1b2c3d-arm64-1"], [f"127.0.0.1:5/push{DIGEST}"], [-1, 0]),
        (["127.0.0.1:5/push:v1-beta-2", "archloom/mine:1"], [f"127.0.0.1:5/push{DIGEST}"], []),
    ],
)
def test_names_of_tunnels_are_told_from_others(tags: list[str] | None, digests: list[str], leaked: list[int]):
    """In the engine's list: -1 is the tag, others count the digests."""
    expected = [(tags or [""])[0] if index < 0 else digests[index] for index in leaked]
    assert list(tunnel_names({"RepoTags": tags, "RepoDigests": digests})) == expected
