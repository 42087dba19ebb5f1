"""One inventory with everything that can be wrong with a board: the build goes on, and each is a line that helps."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.archloom import Home, context, good
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.judges import skopeo_inspect
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.registry]

YEAR = 365 * 86400


@pytest.fixture
def app(registry: Registry, tmp_path: Path) -> Path:
    base = base_image(registry, "linux/amd64", "linux/386", repository="bad/base")
    return context(tmp_path / "app", f"FROM {base.reference}\nRUN echo {secrets.token_hex(8)} >/made\n")


def test_every_kind_of_bad_board_is_a_line_that_helps(
    own_board: Callable[..., Board], home: Home, app: Path, registry: Registry
):
    """Off, another host key, no Python, not in the docker group, no room, a clock of last year, one machine twice."""
    good_one = own_board(name="good", motd="Have a nice day", sshd=("MaxSessions 1",))
    off = own_board(name="off", engine=False)
    rekeyed = own_board(name="rekeyed", engine=False)
    bare = own_board(name="bare", engine=False, hidden=("python*",))
    outsider = own_board(name="outsider", user="pi", groups=())
    full = own_board(name="full", disks=(("/var/lib/docker", 64),))
    late = own_board(name="late", user="pi", clock=-YEAR, engine=True)
    boards = (good_one, off, rekeyed, bare, outsider, full, late)
    ssh_home(home.folder, *boards)
    off.unplug()
    rekeyed.new_host_key()
    entries = [f"  {one.name}: ssh://{one.name}" for one in boards]
    entries.append(f"  twin: {{host: {good_one.second_address}, user: root, host_key: {good_one.host_key}}}")
    entries.append("  nowhere: ssh://nosuch.invalid")
    (home.folder / "inventory.yaml").write_text("\n".join(["boards:", *entries]) + "\n")
    tag = f"{registry.address}/bad/app:1"

    shown = home.run("boards")
    done = good(home.run("build", str(app), "-t", tag, "--platform", "linux/amd64,linux/386"))

    assert skopeo_inspect(tag, "linux/386")["Architecture"] == "386"
    said = {
        "off": "no SSH answer",
        "rekeyed": "has CHANGED",
        "bare": "no Python 3",
        "outsider": "may not use",
        "full": "disk free|too little space below",
        "late": "behind ours",
        "twin": "same machine",
        "nowhere": "does not resolve",
    }
    for name, words in said.items():
        about = [line for line in done.stderr.splitlines() if re.match(rf"note: .*\b{name}\b", line)]
        assert len(about) == 1, (name, about)
        if name != "off":
            assert re.search(words, about[0]), about[0]
        assert re.search(rf"(?m)^{name}: .*({words})", shown.stderr), name
    for cure in ("archloom boards trust rekeyed", "sudo apt install python3", "usermod -aG docker", "set-ntp"):
        assert cure in shown.stderr
    assert "Have a nice day" not in shown.stdout + done.stderr


def test_a_board_behind_another_and_one_that_forwards_nothing_build(
    own_board: Callable[..., Board], home: Home, app: Path, registry: Registry
):
    """A jump host of ~/.ssh/config, and a board whose image leaves as an archive: both are used like any other."""
    jump = own_board(name="jump", engine=False)
    inner = own_board(name="inner", behind=jump)
    walled = own_board(name="walled", user="pi", sshd=("AllowTcpForwarding no",))
    ssh_home(home.folder, jump, inner, walled)
    (home.folder / "inventory.yaml").write_text("boards: {inner: ssh://inner, walled: ssh://walled}\n")
    tag = f"{registry.address}/bad/ways:1"

    done = good(home.run("build", str(app), "-t", tag, "--platform", "linux/amd64,linux/386"))

    assert "inner native" in done.stderr
    assert "walled compat" in done.stderr
    assert len([line for line in done.stderr.splitlines() if "walled" in line and line.startswith("note:")]) == 1
    assert skopeo_inspect(tag, "linux/386")["Architecture"] == "386"
