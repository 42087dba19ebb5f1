"""One board that cannot build never decides a run: another builds. What a Dockerfile does wrong is not tried again."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.archloom import BEGUN, Home, context, follow, good
from tests.recorders.causes import FAKE_RUNC, LEAVE, REMOUNT, RUNC
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.judges import skopeo_inspect
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]

OwnBoard = Callable[..., Board]
NO_DEVICE = "echo runc run failed: unable to start container process: no such device >&2; exit 1"
STEP = "RUN echo begun; sleep 3; dd if=/dev/zero of=/fill bs=1048576 count=20\n"


@pytest.fixture
def farm(own_board: OwnBoard, home: Home) -> tuple[Board, Board]:
    """A board whose engine has a small disk of its own, and one that is sound, which the scheduler prefers less."""
    bad = own_board(name="bad", disks=(("/var/lib/docker", 400),))
    sound = own_board(name="sound")
    ssh_home(home.folder, bad, sound)
    inventory = "boards:\n  bad: {host: bad, jobs: 2, use: [build]}\n  sound: {host: sound, use: [build]}\n"
    (home.folder / "inventory.yaml").write_text(inventory)
    return bad, sound


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (LEAVE.format(1000000), "disk", r"too little space below /var/lib/docker: \d+ MiB free"),
        (REMOUNT, "read_only", "the file system of /var/lib/docker is read-only"),
        (FAKE_RUNC.format(NO_DEVICE, "755", RUNC), "engine", "exit code: 1"),
    ],
    ids=["full", "read-only", "runc"],
)
def test_a_board_that_cannot_build_is_replaced_at_once(
    farm: tuple[Board, Board],
    home: Home,
    registry: Registry,
    tmp_path: Path,
    fault: str,
    code: str,
    words: str,
) -> None:
    """In the middle of a step its disk is full or turns read-only, or its runc starts nothing more."""
    bad, _ = farm
    base = base_image(registry, "linux/amd64", repository="fault/base")
    mark = secrets.token_hex(4)
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo {mark}\n{STEP}RUN echo {mark} again\n")
    tag = f"{registry.address}/fault/{code}:1"
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64")
    seen = follow(process, BEGUN)

    bad.run(fault)
    seen += process.communicate(timeout=120)[1]

    assert process.returncode == 0, seen
    assert re.search(rf"bad .*LOST \({code}\).*{words}", seen), seen
    assert skopeo_inspect(tag)["Architecture"] == "amd64"


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (REMOUNT, "read_only|engine"),
        (FAKE_RUNC.format(NO_DEVICE, "755", RUNC), "engine"),
    ],
    ids=["read-only", "runc"],
)
def test_a_board_that_could_not_build_from_the_beginning_is_replaced(
    farm: tuple[Board, Board], home: Home, registry: Registry, tmp_path: Path, fault: str, codes: str
) -> None:
    """It has been known for long, so the run asks it first. An engine of 2020 dies of a read-only disk."""
    bad, _ = farm
    base = base_image(registry, "linux/amd64", repository="fault/base")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo {secrets.token_hex(4)}\n")
    words = ("build", str(folder), "-t", f"{registry.address}/fault/before:1", "--platform", "linux/amd64")
    good(home.run("boards"))
    bad.run(fault)

    done = good(home.run(*words))

    assert re.search(rf"bad .*LOST \(({codes})\)", done.stderr), done.stderr


@pytest.mark.usefixtures("farm")
def test_a_board_with_less_memory_than_its_floor_is_spared(home: Home, registry: Registry, tmp_path: Path) -> None:
    """The build there is ended before it does harm, with what was left and the limit; the other board builds."""
    inventory = home.folder / "inventory.yaml"
    inventory.write_text(inventory.read_text().replace("jobs: 2", "jobs: 2, memory_floor: 9TB"))
    base = base_image(registry, "linux/amd64", repository="fault/base")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo {secrets.token_hex(4)}; sleep 1\n")

    done = good(home.run("build", str(folder), "-t", f"{registry.address}/fault/floor:1", "--platform", "linux/amd64"))

    ended = r"bad .*LOST \(memory\).* MiB of memory and \d+ MiB of swap left, memory_floor is 8583068 MiB"
    assert re.search(ended, done.stderr), done.stderr
    assert re.search(r"sound .*verified", done.stderr), done.stderr


@pytest.mark.usefixtures("emulation")
def test_a_crash_on_purpose_under_qemu_is_no_reason_to_build_again(
    home: Home, registry: Registry, tmp_path: Path
) -> None:
    """A step that tests for a crash, and then has a compiler's error: exit 4 after one build."""
    base = base_image(registry, "linux/arm64", repository="fault/arm64")
    (home.folder / "inventory.yaml").write_text("emulators: {local: local}\n")
    crash = "sh -c 'kill -SEGV $$' || echo as it should be; echo main.c:1:5: error: unknown type; exit 1"
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN {crash}\n")

    done = home.run("build", str(folder), "-t", f"{registry.address}/fault/crash:1", "--platform", "linux/arm64")

    assert done.returncode == 4, done.stderr
    assert "linux/arm64 failed" in done.stderr.lower()
    assert "LOST" not in done.stderr
    assert "main.c:1:5: error: unknown type" in done.stderr


def test_a_step_without_a_network_says_so(home: Home, registry: Registry, tmp_path: Path) -> None:
    """Exit 4, as of any step that fails, with the code that tells of the network."""
    base = base_image(registry, "linux/amd64", repository="fault/base")
    (home.folder / "inventory.yaml").write_text("emulators: {local: local}\n")
    folder = context(tmp_path / "app", f"FROM {base.reference}\nRUN wget http://127.0.0.1:9/{secrets.token_hex(4)}\n")

    done = home.run("build", str(folder), "-t", f"{registry.address}/fault/net:1", "--platform", "linux/amd64")

    assert done.returncode == 4, done.stderr
    assert done.stderr.count("FAILED (network)") >= 1
    assert "wget: can't connect to remote host" in done.stderr
