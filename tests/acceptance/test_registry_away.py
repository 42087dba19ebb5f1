"""A registry that fails in the middle of a run: it is waited for, nothing is built twice, and the user may leave."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.archloom import Home, context, follow, good
from tests.chaos.registry_proxy import TROUBLES, RegistryProxy, registry_proxy
from tests.services.boards import Board
from tests.services.commands import Child
from tests.services.images import base_image
from tests.services.judges import skopeo_inspect
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]


@pytest.fixture
def proxy(registry: Registry) -> Iterator[RegistryProxy]:
    with registry_proxy(registry.address) as made:
        yield made


@pytest.fixture
def tag(proxy: RegistryProxy) -> str:
    return f"{proxy.address}/away/{secrets.token_hex(4)}:1"


@pytest.fixture
def begun(
    registry: Registry, proxy: RegistryProxy, own_board: Callable[..., Board], home: Home, tmp_path: Path, tag: str
) -> Iterator[Child]:
    """A build on a board, whose image is large enough for a push that can be seen."""
    base = base_image(replace(registry, address=proxy.address), "linux/amd64", repository="away/base")
    board = own_board(name="pi")
    board.bandwidth("20mbit")
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text("boards: {pi: ssh://pi}\nregistry_patience: 2m\n")
    noise = f"RUN head -c 3000000 /dev/urandom >/{secrets.token_hex(4)}\n"
    folder = context(tmp_path / "app", f"FROM {base.reference}\n{noise}")
    with home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64") as process:
        yield process


@pytest.mark.parametrize("trouble", ["401", "full", "reset"])
def test_a_registry_that_comes_back_gets_the_image(
    begun: Child, proxy: RegistryProxy, registry: Registry, home: Home, tag: str, trouble: str
):
    """The run says who fails, how often it has tried, who keeps the image and until when; `why` tells it too."""
    follow(begun, r"push: \d+ %")
    proxy.misbehave(TROUBLES[trouble])
    wait = follow(begun, r"registry \S+: .*; since \d+ s, try \d+; pi keeps linux/amd64; gives up in \d+ (s|min)")
    proxy.behave()
    rest = follow(begun, rf"registry {proxy.address} serves again after", r"published ")

    assert begun.wait(60) == 0, wait + rest
    assert "FAILED" not in rest
    assert "LOST" not in rest
    inner = tag.replace(proxy.address, registry.address)
    assert skopeo_inspect(inner, "linux/amd64")["Architecture"] == "amd64"
    told = json.loads(good(home.run("why", "--json")).stdout)
    entries = told["platforms"]["linux/amd64"]["entries"]
    assert [entry["name"] for entry in entries].count("build") == 1
    assert any(entry["kind"] == "wait" and "served after" in entry["text"] for entry in entries)
    assert any(entry["kind"] == "error" and entry["name"] == "registry" for entry in entries)


@pytest.mark.parametrize("trouble", ["silent", "403"])
def test_ctrl_c_does_not_wait_for_a_registry(begun: Child, proxy: RegistryProxy, home: Home, trouble: str):
    """The exit code is 130, and a retry publishes what the board keeps, without a build."""
    follow(begun, r"push: \d+ %")
    proxy.misbehave(TROUBLES[trouble])
    follow(begun, r"registry \S+( has not answered|: .*; gives up in)")
    begun.send_signal(signal.SIGINT)

    assert begun.wait(20) == 130
    proxy.behave()
    done = good(home.run("retry"))
    assert "head -c" not in done.stderr
    assert "published" in done.stderr
