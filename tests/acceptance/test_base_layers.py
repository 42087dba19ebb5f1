"""A base in the registry that is built into: its layers are there, and no board sends them."""

from __future__ import annotations

import json
import random
from secrets import token_hex

import pytest

from tests.acceptance.archloom import context, good
from tests.services.images import base_image
from tests.services.judges import skopeo_raw

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.usefixtures("nothing_left")]

MIB = 1024 * 1024


def layers_of(name: str) -> list[str]:
    return [layer["digest"] for layer in json.loads(skopeo_raw(name))["layers"]]


def test_a_base_s_layers_are_never_sent(own_registry, home, tmp_path):
    """Two builds of a context that changes send each what RUN made and the config; the rest is mounted, as it is."""
    registry = own_registry()
    base = base_image(registry, "linux/amd64", repository="lib/base", more=random.randbytes(3 * MIB))
    base_layers = layers_of(f"{registry.address}/lib/base@{base.children['linux/amd64']}")
    uploaded = []
    for _ in range(2):
        folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo {token_hex(8)} >/made\n")
        good(home.run("build", str(folder), "-t", f"{registry.address}/team/app:1", "--platform", "linux/amd64"))
        uploaded.append(registry.uploads("team/app").total())

    assert uploaded == [2, 4], registry.uploads("team/app")
    assert registry.uploads("team/app").keys().isdisjoint(base_layers)
