"""Where an engine keeps what it builds, by what it says of itself and what containerd is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.engine.engine_disk import folders

CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]
SERVICE = "/run/containerd/containerd.sock"


def info(address: str, root: str = "/data/docker") -> dict[str, object]:
    return {"DockerRootDir": root, "DriverStatus": CONTAINERD, "Containerd": {"Address": address}}


@pytest.mark.parametrize(
    ("said", "config", "images"),
    [
        (info("/run/docker/containerd/containerd.sock"), 'root = "/big"\n', "/data/docker/containerd/daemon"),
        (info(SERVICE), None, "/var/lib/containerd"),
        (info(f"/var{SERVICE}"), 'version = 2\n  root = "/big/containerd" # ours\n', "/big/containerd"),
        (info(SERVICE), '[plugins.x]\n  root = "/no"\n', "/var/lib/containerd"),
        (info("/run/own.sock"), "root = '/big'\n[grpc]\n  address = '/run/own.sock'\n", "/big"),
    ],
)
def test_images_lie_where_their_containerd_keeps_them(tmp_path: Path, said, config, images):
    """Below the engine's root where it started containerd, else below that one's own; a builder writes to both."""
    file = tmp_path / "config.toml"
    if config is not None:
        file.write_text(config)

    assert folders(said, file) == ("/data/docker", images)


def test_a_rootless_engine_that_does_not_say_has_a_containerd_of_its_own(tmp_path: Path):
    """Engines before 27 do not name theirs; that of the machine is not a user's."""
    said = info("") | {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}

    assert folders(said, tmp_path / "none")[1] == "/data/docker/containerd/daemon"


def test_a_graph_driver_keeps_images_below_the_root(tmp_path: Path):
    """The engine has a containerd then too, for containers alone."""
    said = info(SERVICE) | {"DriverStatus": [["Backing Filesystem", "extfs"]]}

    assert folders(said, tmp_path / "none") == ("/data/docker",)
    assert folders({}, tmp_path / "none") == ("/",)
