"""One bad host, cable or registry never decides the run: others take over, what is built is kept, and it is said."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.archloom import BEGUN, PATIENCE, Home, context, follow, good
from tests.chaos.registry_proxy import RegistryProxy, Trouble, registry_proxy
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.judges import pulled, ran
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]

Farm = Mapping[str, Board]
# A line of the build's output, which the line of its step is not.
ON_A = rf"pi-a native.*{BEGUN}"


def write_inventory(home: Home, *boards: Board, more: str = "", registries: str = "") -> None:
    ssh_home(home.folder, *boards)
    lines = ["boards:", *(f"  {board.name}: {{host: {board.name}{more}}}" for board in boards)]
    (home.folder / "inventory.yaml").write_text("\n".join(lines) + f"\n{registries}")


@pytest.fixture
def two(home: Home, farm: Farm) -> Farm:
    """`pi-a`, which is asked first, and `pi-b`."""
    write_inventory(home, farm["pi-a"], farm["pi-b"])
    return farm


@pytest.fixture
def app(registry: Registry, tmp_path: Path) -> Callable[..., Path]:
    """A context whose RUN prints `begun` and a token of its own, and takes some seconds."""
    base = base_image(registry, "linux/amd64", "linux/386", repository="endurance/base")

    def make(seconds: int, **files: bytes) -> Path:
        steps = f"RUN echo begun; sleep {seconds}; echo {secrets.token_hex(8)} >/made\n"
        copies = "".join(f"COPY {name} /{name}\n" for name in files)
        return context(tmp_path / secrets.token_hex(4), f"FROM {base.reference}\n{steps}{copies}", files)

    return make


def attempts(home: Home, platform: str = "linux/amd64") -> list[tuple[str, str]]:
    """Host and end of each attempt of the latest run."""
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]
    return [(one["host"], one["state"]) for one in run["platforms"][platform]["attempts"]]


def test_another_board_begins_what_a_dead_one_has(two, home, app, registry):
    """Before its patience is over; the first result wins, and what the dead board may still do is said."""
    tag = f"{registry.address}/endurance/dead:1"
    process = home.start("build", str(app(8)), "-t", tag, "--platform", "linux/amd64")
    follow(process, ON_A)
    two["pi-a"].power_off()
    said = process.communicate(timeout=PATIENCE)[1]

    assert process.returncode == 0, said
    assert "pi-a native   connection lost: the build may go on there; trying to reach it again, 60 s left" in said
    assert "pi-b native   assigned (attempt 2, no answer from pi-a)" in said
    assert "pi-a does not answer: it may still build linux/amd64, until a run reaches it again" in said
    assert attempts(home) == [("pi-a", "cancelled"), ("pi-b", "pushed")]
    with pulled(tag, "linux/amd64"):
        assert len(ran(tag, "linux/amd64", "cat", "/made")) == 17


def test_a_board_that_dies_in_a_push_is_replaced_like_any_other(two, home, app, registry):
    """Its image is lost with it: the other board builds."""
    two["pi-a"].bandwidth("8mbit")
    tag = f"{registry.address}/endurance/push:1"
    folder = app(0, noise=secrets.token_bytes(8 << 20))
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64")
    follow(process, r"pi-a native +push\s*$")
    two["pi-a"].power_off()
    said = process.communicate(timeout=PATIENCE)[1]

    assert process.returncode == 0, said
    assert "connection lost: the image stays there; trying to reach it again" in said
    assert attempts(home) == [("pi-a", "cancelled"), ("pi-b", "pushed")]


def test_a_cut_cable_costs_a_wait_in_every_stage(home, farm, app, registry):
    """One board, no other: the run goes on when it answers again, whatever it was doing; nothing is tried twice."""
    board = farm["pi-b"]
    write_inventory(home, board)
    board.bandwidth("8mbit")
    tag = f"{registry.address}/endurance/cut:1"
    process = home.start(
        "build", str(app(5, noise=secrets.token_bytes(6 << 20))), "-t", tag, "--platform", "linux/amd64"
    )
    said = ""
    for stage in (r"context: sent \d+ %", BEGUN, r"pi-b native +push\s*$"):
        said += follow(process, stage)
        board.unplug()
        said += follow(process, r"connection lost: .*trying to reach it again, \d+ s left")
        board.plug()
        said += follow(process, "connection lost: reached again")
    said += process.communicate(timeout=PATIENCE)[1]

    assert process.returncode == 0, said
    assert attempts(home) == [("pi-b", "pushed")]
    assert said.count("  | ") == 0


def test_a_board_that_stays_away_is_given_up_when_its_patience_is_over(home, farm, app, registry):
    """Exit 5, with the host and how it can be tried again; the time is the inventory's."""
    board = farm["pi-b"]
    write_inventory(home, board, more=", reconnect_for: 5s")
    tag = f"{registry.address}/endurance/gone:1"
    process = home.start("build", str(app(30)), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    board.power_off()
    said = process.communicate(timeout=PATIENCE)[1]

    assert process.returncode == 5, said
    assert "connection lost: the build may go on there; trying to reach it again, 5 s left" in said
    assert "trying again" not in said
    assert f"{tag} not touched" in said


def test_a_board_that_was_off_joins(home, farm, app, registry):
    """It takes what waits for the busy one; it is said."""
    late, busy = farm["pi-a"], farm["pi-b"]
    write_inventory(home, late, busy)
    late.power_off()
    tag = f"{registry.address}/endurance/late:1"
    words = ("--platform", "linux/amd64,linux/386")
    process = home.start("build", str(app(40)), "-t", tag, *words)
    follow(process, rf"pi-b (native|compat).*{BEGUN}")
    late.power_on()
    said = process.communicate(timeout=PATIENCE)[1]

    assert process.returncode == 0, said
    assert "note: pi-a answers now, and takes part in this run" in said
    assert {host for platform in words[1].split(",") for host, _ in attempts(home, platform)} == {"pi-a", "pi-b"}


@pytest.fixture
def proxy(registry: Registry):
    with registry_proxy(registry.address) as proxy:
        yield proxy


def in_vain(home: Home, proxy: RegistryProxy, folder: Path, tag: str, *, patience: str) -> tuple[str, int]:
    """Builds while the registry answers 503 from the first build line on, for longer than its patience."""
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64")
    said = follow(process, BEGUN)
    proxy.misbehave(Trouble(status=503))
    said += process.communicate(timeout=PATIENCE)[1]
    proxy.behave()
    assert patience in said
    return said, process.returncode


def test_what_is_built_is_kept_until_the_registry_is_back(home, farm, app, proxy):
    """Exit 6 and a hint; `retry` publishes what the board kept, and no step runs again."""
    write_inventory(home, farm["pi-b"], registries="registry_patience: 5s\n")
    tag = f"{proxy.address}/endurance/kept:1"
    said, code = in_vain(home, proxy, app(2), tag, patience="5 s")
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]

    assert code == 6, said
    assert "pi-b keeps the image" in said
    assert "linux/amd64 built and kept on pi-b (registry)" in said
    assert f"archloom retry {run['run']}" in said
    assert "not built" not in said
    assert farm["pi-b"].jobs_of(run["run"]) != []

    done = good(home.run("retry", run["run"]))

    assert f"has the image, built by run {run['run']}" in done.stderr
    assert "begun" not in done.stderr
    assert f"built it; see archloom logs {run['run']}" in home.run("logs").stderr
    assert f"published, with the image that run {run['run']} built" in good(home.run("why")).stdout
    assert attempts(home) == [("pi-b", "pushed")]
    with pulled(tag, "linux/amd64"):
        assert len(ran(tag, "linux/amd64", "cat", "/made")) == 17
    assert farm["pi-b"].jobs_of(run["run"]) == []


def test_ctrl_c_keeps_what_is_built(home, farm, app, proxy):
    """While the registry is waited for: exit 130 within seconds, and the same retry."""
    write_inventory(home, farm["pi-b"])
    tag = f"{proxy.address}/endurance/stopped:1"
    process = home.start("build", str(app(1)), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    proxy.misbehave(Trouble(silent=True))
    follow(process, r"pi-b native +push")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=10)[1]
    proxy.behave()

    assert process.returncode == 130, said
    assert "pi-b keeps the image" in said
    done = good(home.run("retry", json.loads(good(home.run("runs", "--json")).stdout)[0]["run"]))
    assert "begun" not in done.stderr


def test_a_kept_image_whose_host_is_off_is_built_elsewhere(two, home, app, proxy):
    """And nothing of it is left when the host is used again."""
    tag = f"{proxy.address}/endurance/elsewhere:1"
    inventory = home.folder / "inventory.yaml"
    inventory.write_text(inventory.read_text() + "registry_patience: 2s\n")
    _, code = in_vain(home, proxy, app(1), tag, patience="2 s")
    assert code == 6
    [(holder, _)] = attempts(home)
    two[holder].power_off()

    done = good(home.run("retry", json.loads(good(home.run("runs", "--json")).stdout)[0]["run"]))

    assert f"linux/amd64 was built on {holder}, which does not answer: it is built again" in done.stderr
    assert "begun" in done.stderr
    assert [host for host, _ in attempts(home)] != [holder]
