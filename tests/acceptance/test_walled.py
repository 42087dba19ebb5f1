"""Engines that cannot reach the tunnel: the same build, carried as archives, judged by docker and skopeo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.archloom import context, good
from tests.services.commands import run_limited
from tests.services.images import base_image, packed_file, push_image
from tests.services.judges import pulled, ran, skopeo_inspect, skopeo_raw
from tests.services.missing import program
from tests.services.rootless_engine import rootless_engine
from tests.services.ssh_home import ssh_home
from tests.services.walled_engine import walled_engine

pytestmark = [pytest.mark.engine, pytest.mark.registry]

TWO = ("linux/amd64", "linux/arm64")


def held(socket: Path) -> list[str]:
    answer = run_limited(
        [program("docker"), "-H", f"unix://{socket}", "images", "--quiet"], check=True, capture_output=True, text=True
    )
    return answer.stdout.split()


@pytest.mark.usefixtures("emulation")
def test_an_engine_with_its_own_loopback_is_served_by_archives(registry, home, tmp_path):
    """That it cannot reach the tunnel is found out by trying, and told once for both platforms."""
    with walled_engine() as socket:
        notes = carried(registry, home, tmp_path, socket)

    assert len(notes) == 1
    assert "another loopback" in notes[0]


@pytest.mark.usefixtures("emulation")
def test_a_rootless_engine_is_served_by_archives(registry, home, tmp_path):
    """Its facts say so: nothing is tried in vain."""
    with rootless_engine() as socket:
        assert carried(registry, home, tmp_path, socket) == []

        found = good(home.run("boards", environment={"DOCKER_HOST": f"unix://{socket}"}))

    assert "the engine is rootless" in found.stderr


@pytest.mark.usefixtures("emulation")
def test_a_board_that_forbids_forwarding_is_served_by_archives(registry, home, tmp_path, own_board):
    """A real sshd says no: the image leaves by the bulk channel, and what was built runs."""
    board = own_board(name="pi", sshd=("AllowTcpForwarding no",))
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text("boards:\n  pi: ssh://pi\n")
    base = base_image(registry, "linux/amd64", repository="walled/base")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo made >/made\n", {"data": bytes(3_000_000)})
    tag = f"{registry.address}/walled/forbidden:1"

    done = good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64"))

    notes = [line for line in done.stderr.splitlines() if "carried as archives" in line]
    assert len(notes) == 1
    assert "forwards no ports" in notes[0]
    assert board.docker("images", "--quiet").split() == []
    with pulled(tag, "linux/amd64"):
        assert ran(tag, "linux/amd64", "cat", "/made") == "made\n"


def carried(registry, home, folder: Path, socket: Path) -> list[str]:
    """Builds on this engine, and what is told of the way; bases go in, images come out and share their layers."""
    base = base_image(registry, *TWO, repository="walled/base")
    tool = {"os": "linux", "architecture": "amd64"}
    push_image(registry, "walled/tool", tool, packed_file("tool", b"tool"), target="1")
    text = f"FROM {base.reference}\nCOPY hello /hello\nCOPY --from={registry.address}/walled/tool:1 /tool /tool\n"
    built = context(folder / "context", text, {"hello": "hello"})
    tag = f"{registry.address}/walled/{folder.name.lower()}:1"
    environment = {"DOCKER_HOST": f"unix://{socket}"}

    done = good(home.run("build", str(built), "-t", tag, "--platform", ",".join(TWO), environment=environment))

    assert held(socket) == []
    for platform in TWO:
        child = json.loads(skopeo_raw(f"{registry.address}/walled/base@{base.children[platform]}"))
        assert skopeo_inspect(tag, platform)["Layers"][0] == child["layers"][0]["digest"]
        with pulled(tag, platform) as image:
            assert f"{image['Os']}/{image['Architecture']}" == platform
            assert ran(tag, platform, "cat", "/tool") == "tool"
    return [line for line in done.stderr.splitlines() if "carried as archives" in line]
