"""Engines that cannot reach the tunnel: the same build, carried as archives, judged by docker and skopeo."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.archloom import context, good
from tests.services.images import base_image
from tests.services.judges import pulled, skopeo_inspect, skopeo_raw
from tests.services.missing import program
from tests.services.walled_engine import walled_engine

pytestmark = [pytest.mark.engine, pytest.mark.registry]

TWO = ("linux/amd64", "linux/arm64")


def held(socket: Path) -> list[str]:
    answer = subprocess.run(
        [program("docker"), "-H", f"unix://{socket}", "images", "--quiet"], check=True, capture_output=True, text=True
    )
    return answer.stdout.split()


@pytest.mark.usefixtures("emulation")
def test_an_engine_with_its_own_loopback_is_served_by_archives(registry, home, tmp_path):
    """Bases go in and images come out all the same, layers are shared with the base, and it is told once."""
    base = base_image(registry, *TWO, repository="walled/base")
    folder = context(tmp_path / "context", f"FROM {base.reference}\nCOPY hello /hello\n", {"hello": "hello"})
    tag = f"{registry.address}/walled/app:1"
    with walled_engine() as socket:
        environment = {"DOCKER_HOST": f"unix://{socket}"}

        done = good(home.run("build", str(folder), "-t", tag, "--platform", ",".join(TWO), environment=environment))

        assert held(socket) == []
    notes = [line for line in done.stderr.splitlines() if "carried as archives" in line]
    assert len(notes) == 1
    assert "another loopback" in notes[0]
    for platform in TWO:
        child = json.loads(skopeo_raw(f"{registry.address}/walled/base@{base.children[platform]}"))
        assert skopeo_inspect(tag, platform)["Layers"][0] == child["layers"][0]["digest"]
        with pulled(tag, platform) as image:
            assert f"{image['Os']}/{image['Architecture']}" == platform
