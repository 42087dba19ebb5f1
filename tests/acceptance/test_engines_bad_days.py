"""Bad days of today's engines: a closed file, an API floor, a full disk of images, a push that breaks."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.archloom import Home, context, good
from tests.acceptance.leftovers import nothing_is_left
from tests.services.boards import Board
from tests.services.commands import run_limited
from tests.services.images import base_image
from tests.services.judges import pulled, ran, skopeo_inspect
from tests.services.missing import missing
from tests.services.paths import ROOT
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]

OwnBoard = Callable[..., Board]
App = Callable[..., Path]


@pytest.fixture
def app(registry: Registry, tmp_path: Path) -> App:
    """A context whose steps no engine has in its cache."""
    base = base_image(registry, "linux/amd64", repository="today/base")

    def make(steps: str = "") -> Path:
        mark = secrets.token_hex(8)
        return context(tmp_path / f"app-{mark}", f"FROM {base.reference}\nRUN echo {mark}\n{steps}")

    return make


def list_boards(home: Home, *boards: Board) -> None:
    ssh_home(home.folder, *boards)
    entries = "".join(f"  {one.name}: ssh://{one.name}\n" for one in boards)
    (home.folder / "inventory.yaml").write_text(f"boards:\n{entries}")


def closed_files(app: App) -> Path:
    """A context with a file and a folder that only root can open once they have their modes."""
    folder = app("COPY rootfs /\nRUN stat -c '%a %n' /etc/shadow /srv /srv/kept >/modes\n")
    for name, mode in (("etc/shadow", 0o000), ("srv/kept", 0o644)):
        path = folder / "rootfs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("root:*:19000:0:::::")
        path.chmod(mode)
    (folder / "rootfs/srv").chmod(0o311)
    return folder


@pytest.mark.parametrize("way", ["auto", "api"])
@pytest.mark.parametrize("store", ["overlay2", "containerd"])
def test_what_a_login_cannot_open_is_built_as_it_is(own_board, home, app, registry, way, store):
    """Never published empty: BuildKit's client sends no content for a file that its user cannot open."""
    board = own_board(name="pi4", user="pi", system="sid", store=store)
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text(f"boards: {{pi4: {{host: pi4, engine: {way}}}}}\n")
    folder = closed_files(app)
    tag = f"{registry.address}/engines/closed-{way}-{store}:1"

    done = good(home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64"))

    assert "pi4 native" in done.stderr
    with pulled(tag, "linux/amd64"):
        assert ran(tag, "linux/amd64", "cat", "/modes").splitlines() == [
            "0 /etc/shadow",
            "311 /srv",
            "644 /srv/kept",
        ]
        assert ran(tag, "linux/amd64", "cat", "/etc/shadow").endswith("root:*:19000:0:::::")
    nothing_is_left(board)


def test_a_command_line_that_the_engine_does_not_take_is_passed_by(own_board, home, app, registry):
    """Docker 29 takes no client below API 1.44, and one of 2020 speaks 1.41: the Engine API builds, and is said to."""
    fetched = run_limited([ROOT / "scripts" / "fetch-docker"], capture_output=True, text=True, timeout=240)
    if fetched.returncode:
        missing(f"there is no docker of 2020: {fetched.stderr.strip()}")
    floor = (("DOCKER_MIN_API_VERSION", "1.44"),)
    board = own_board(
        name="pi4", system="sid", store="containerd", engine_environment=floor, hidden=("docker", "docker-buildx")
    )
    old = Path(f"/proc/{board.pid}/root/usr/local/bin/docker")
    shutil.copy(fetched.stdout.strip(), old)
    assert "client version 1.41 is too old" in board.run("docker ps 2>&1 || true")
    list_boards(home, board)
    tag = f"{registry.address}/today/floor:1"

    shown = good(home.run("boards", "pi4"))
    done = good(home.run("build", str(app()), "-t", tag, "--platform", "linux/amd64"))

    assert re.search(r"builds by +api\n", shown.stdout), shown.stdout
    assert "docker 20.10.24+dfsg1 has no buildx, and the engine wants API 1.44 at least" in shown.stdout + shown.stderr
    assert "pi4 native" in done.stderr
    assert skopeo_inspect(tag)["Architecture"] == "amd64"


def test_a_disk_of_images_that_fills_is_the_hosts_fault(own_board, home, app, registry):
    """A containerd that is a service keeps images on its own disk: that is shown, and named when a build fills it."""
    board = own_board(
        name="small", system="sid", store="containerd", containerd=True, disks=(("/var/lib/containerd", 160),)
    )
    list_boards(home, board)
    folder = app("RUN dd if=/dev/zero of=/fill bs=1048576 count=400\n")
    tag = f"{registry.address}/today/full:1"

    [shown] = json.loads(good(home.run("boards", "--json")).stdout)
    done = home.run("build", str(folder), "-t", tag, "--platform", "linux/amd64", "--on", "small")

    assert shown["engine"]["images"] == "/var/lib/containerd"
    assert shown["disk_total"] < 170 << 20
    assert done.returncode == 5, done.stderr
    assert re.search(r"LOST \(disk\) at .*: too little space below /var/lib/containerd: ", done.stderr), done.stderr


def test_pushes_that_break_end_in_an_archive(own_board, home, app, registry):
    """The engine's way into the tunnel breaks each time: three tries, then by the other way, and why tells it all."""
    board = own_board(name="pi4", user="pi", system="sid", store="containerd")
    # What comes last of a push, and is never tried again by the engine itself.
    board.run(
        "iptables -A OUTPUT -o lo -p tcp -m string --algo bm --string 'PUT /v2/push/manifests' -j REJECT"
        " --reject-with tcp-reset"
    )
    list_boards(home, board)
    tag = f"{registry.address}/today/broken:1"

    done = good(home.run("build", str(app()), "-t", tag, "--platform", "linux/amd64"))
    why = good(home.run("why")).stdout

    assert done.stderr.count("push: lost: host 'pi4': ") == 3
    assert done.stderr.count("native   build") == 1
    assert "push: again, try 4, as an archive" in done.stderr
    assert len(re.findall(r"(?m)^ *[\d.]+ s +push lost: host 'pi4': .*/v2/push/manifests/.*$", why)) == 3, why
    assert skopeo_inspect(tag)["Architecture"] == "amd64"
