"""The farm: two boards and an emulator, three platforms and more, one tag; and boards that fail on the way."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.archloom import BEGUN, PATIENCE, Home, context, follow, good
from tests.acceptance.conftest import held
from tests.acceptance.leftovers import nothing_is_left
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.judges import pulled, ran, skopeo_inspect, skopeo_raw
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.usefixtures("emulation")]

THREE = ("linux/amd64", "linux/386", "linux/arm64")
Farm = Mapping[str, Board]


@pytest.fixture
def boards(home: Home, farm: Farm) -> Farm:
    """`pi-a` and `pi-b`, known to the user's SSH and inventory, and this machine as the emulator."""
    write_inventory(home, farm["pi-a"], farm["pi-b"])
    return farm


def write_inventory(home: Home, *boards: Board, emulator: bool = True) -> None:
    ssh_home(home.folder, *boards)
    lines = ["boards:", *(f"  {one.name}: ssh://{one.name}" for one in boards)]
    if emulator:
        lines += ["emulators:", "  beast: local"]
    (home.folder / "inventory.yaml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def app(registry: Registry, tmp_path: Path) -> Callable[[str], Path]:
    """A context whose RUN executes code of each platform."""
    base = base_image(registry, *THREE, repository="farm/base")

    def make(steps: str = "") -> Path:
        run = f"RUN echo {secrets.token_hex(8)} >/made; uname -m >/machine\n{steps}"
        return context(tmp_path / f"app-{secrets.token_hex(4)}", f"FROM {base.reference}\n{run}", {"data": b"x" * 9999})

    return make


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def where(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Host and mode of each verified platform."""
    return {
        str(one["platform"]): (str(one["host"]), str(one["mode"])) for one in events(done) if one["event"] == "verified"
    }


def test_boards_build_natively_and_the_emulator_does_the_rest(boards, home, app, registry):
    """Three platforms, one tag: each board takes one of its own, QEMU what no board can; judged from outside."""
    tag = f"{registry.address}/farm/app:1"
    before = held()

    done = good(home.run("build", str(app()), "-t", tag, "--platform", ",".join(THREE), "--progress", "rawjson"))

    assert where(done) == {
        "linux/amd64": ("pi-a", "native"),
        "linux/386": ("pi-b", "compat"),
        "linux/arm64": ("beast", "emulated"),
    }
    for platform in THREE:
        with pulled(tag, platform) as image:
            assert image["Architecture"] == platform.split("/")[1]
            assert ran(tag, platform, "cat", "/machine").strip() in {"x86_64", "i686", "aarch64"}
        assert skopeo_inspect(tag, platform)["Architecture"] == platform.split("/")[1]
    for board in (boards["pi-a"], boards["pi-b"]):
        nothing_is_left(board)
    assert held() <= before


def test_a_good_run_ends_with_a_line_that_tells_all(boards, home, app, registry):
    """Tag, digest, platforms, what was emulated, and time; every line of a build says platform, host and mode."""
    tag = f"{registry.address}/farm/plain:1"

    done = good(home.run("build", str(app()), "-t", tag, "--platform", ",".join(THREE)))

    last = done.stderr.splitlines()[-1]
    digest = f"sha256:{hashlib.sha256(skopeo_raw(tag)).hexdigest()}"
    assert last.startswith(
        f"published {tag} {digest} for linux/amd64, linux/386, linux/arm64 (emulated: linux/arm64) in "
    )
    assert "linux/386      pi-b compat   #" in done.stderr


def test_a_board_that_is_off_changes_nothing_but_a_line(boards, home, app, registry):
    """The other board takes its work; the reason is told once; a second run does not wait for it again."""
    boards["pi-a"].power_off()
    tag = f"{registry.address}/farm/off:1"

    done = good(home.run("build", str(app()), "-t", tag, "--platform", "linux/amd64,linux/386"))

    assert f"no SSH answer from {boards['pi-a'].address} port 22" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "pi-a" in line]
    assert len([line for line in lines if not line.startswith("note: waiting for pi-a to answer, ")]) == 1
    assert "published" in done.stderr


@pytest.mark.slow
def test_a_cable_that_is_pulled_in_a_push_costs_a_retry(boards, home, registry, tmp_path):
    """The image is pushed again from where it was, not built again."""
    base = base_image(registry, *THREE, repository="farm/base")
    folder = context(
        tmp_path / "big", f"FROM {base.reference}\nCOPY noise /noise\n", {"noise": secrets.token_bytes(12 << 20)}
    )
    board = boards["pi-b"]
    board.bandwidth("16mbit")
    tag = f"{registry.address}/farm/push:1"
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64", "--on", "pi-b")
    said = follow(process, r"push: [1-7]0 %")
    board.unplug()
    board.run("sleep 25")
    board.plug()
    rest = process.communicate(timeout=PATIENCE)[1]

    assert process.returncode == 0, said + rest
    assert "connection lost: the image stays there" in rest
    assert "connection lost: reached again" in rest
    assert rest.count("native   build") == 0


def test_a_board_that_was_away_when_the_coordinator_died_is_asked_first(boards, home, app, registry):
    """What it built while nobody could look is pushed; no other host gets the job, and nothing is built again."""
    board = boards["pi-b"]
    tag = f"{registry.address}/farm/away:1"
    process = home.start(
        "build", str(app("RUN echo begun; sleep 5")), "-t", tag, "--platform", "linux/amd64", "--on", "pi-b"
    )
    follow(process, BEGUN)
    board.unplug()
    process.kill()
    process.communicate()
    away = json.loads(good(home.run("runs", "--json")).stdout)[0]["run"]
    board.run(f"until ls /home/*/.local/state/archloom-agent/*/jobs/{away}-*/result.json; do sleep 0.2; done")
    seen_away = home.run("boards", "pi-b", "--refresh")
    board.plug()

    done = good(home.run("resume", "--json"))

    assert "unreachable" in seen_away.stdout
    run = json.loads(good(home.run("runs", "--json")).stdout)[0]
    tries = run["platforms"]["linux/amd64"]["attempts"]
    assert [(one["host"], one["state"]) for one in tries] == [("pi-b", "pushed")]
    assert json.loads(done.stdout)["archloom"]["platforms"]["linux/amd64"]["attempts"] == 1
    assert board.jobs_of(run["run"]) == []


def test_a_board_that_is_off_when_its_push_is_gone_on_with_ends_the_run_in_order(boards, home, registry, tmp_path):
    """Killed in the push, and the board is off when the run is taken up: lost, with the reason, and no bug."""
    base = base_image(registry, *THREE, repository="farm/base")
    noise = {"noise": secrets.token_bytes(4 << 20)}
    folder = context(tmp_path / "off", f"FROM {base.reference}\nCOPY noise /noise\n", noise)
    board = boards["pi-b"]
    board.bandwidth("8mbit")
    tag = f"{registry.address}/farm/gone:1"
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64", "--on", "pi-b")
    follow(process, r"native +push")
    process.kill()
    process.communicate()
    board.power_off()

    done = home.run("resume")

    assert done.returncode == 5, done.stderr
    assert "LOST" in done.stderr
    assert "not touched" in done.stderr
    assert "bug" not in done.stderr
