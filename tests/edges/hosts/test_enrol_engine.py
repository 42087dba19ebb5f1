"""Enrolment of boards that have an engine: what they can build, what is in the way, and that a purge leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.archloom import Home, good
from tests.services.boards import Board
from tests.services.ssh_home import said, ssh_home

pytestmark = pytest.mark.engine
OwnBoard = Callable[..., Board]
OLD_JOB = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1]) / "jobs" / "7f3a-amd64-1"
folder.mkdir(parents=True)
(folder / "spec.json").write_text(json.dumps({
    "format": 1, "platform": "linux/amd64", "engine": "api", "dockerfile": "FROM scratch",
    "dockerfile_path": "Dockerfile", "dockerfile_apart": False, "stage": "",
    "build_args": {}, "labels": {}, "no_cache": False,
    "image": "archloom/7f3a:amd64-1",
    "bases": [{"name": "localhost:1/library/base:1-00", "repository": "base0", "digest": "sha256:" + "0" * 64,
               "platform": "linux/amd64"}]}))
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder)


def images(board: Board) -> set[str]:
    return set(board.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split())


def make_image(board: Board, name: str) -> None:
    """An image of this name, as an engine holds many."""
    empty = board.run("head -c 10240 /dev/zero >/tmp/empty.tar; echo /tmp/empty.tar").strip()
    root = Path(f"/proc/{board.pid}/root")
    board.docker("import", str(root / empty.lstrip("/")), name)


def test_a_sound_board_is_ready(home: Home, own_board: OwnBoard):
    """What it builds and the next command are told; a reader of the file finds it at once."""
    board = own_board(name="pi5", user="pi", sshd=("AllowTcpForwarding no",))
    ssh_home(home.folder, board)
    added = good(home.run("boards", "add", "pi5"))
    assert "hint: AllowTcpForwarding yes in /etc/ssh/sshd_config" in added.stderr
    assert "QEMU" not in added.stderr  # a board never emulates
    assert "pi5: builds linux/amd64" in added.stderr
    assert "next: archloom build" in added.stderr
    assert "pi5" in good(home.run("boards")).stdout


def test_a_board_that_has_just_died_is_not_shown_as_active(home: Home, own_board: OwnBoard):
    """Its facts are fresh, but its port takes no connection; while it lives, it is not asked again."""
    board = own_board(name="pi5", user="pi")
    ssh_home(home.folder, board)
    good(home.run("boards", "add", "pi5"))

    def shown() -> tuple[str, bool]:
        [entry] = json.loads(good(home.run("boards", "--json", "pi5")).stdout)
        return entry["state"], entry["cached"]

    assert shown() == ("active", True)
    board.power_off()
    assert shown() == ("unreachable", False)


def test_the_docker_group_is_named(home: Home, own_board: OwnBoard):
    """A user who may not use the engine is told the command; the entry is there for when it was run."""
    board = own_board(name="pi5", user="pi", groups=())
    ssh_home(home.folder, board)
    added = home.run("boards", "add", "pi5")
    assert added.returncode == 5, added.stderr
    assert "AllowTcpForwarding" not in added.stderr
    assert "sudo usermod -aG docker" in added.stderr
    board.run("usermod -aG docker pi")
    assert "usermod" not in good(home.run("boards")).stderr


def test_a_purge_leaves_nothing_of_ours(home: Home, own_board: OwnBoard):
    """Jobs, held images, bases, folders and lock files go; what others made under like names stays."""
    board = own_board(name="pi5", user="pi")
    ssh_home(home.folder, board)
    good(home.run("boards", "add", "pi5"))
    state = board.run("echo /home/pi/.local/state/archloom-agent/*").strip()
    board.run(f"cat >/tmp/job.py; su pi -c 'python3 /tmp/job.py {state}'", stdin=OLD_JOB)
    for name in ("archloom/7f3a:amd64-1", "localhost:1/library/base:1-00", "localhost:1/library/other:1-00"):
        make_image(board, name)
    for name in ("archloom/0000:amd64-1", "127.0.0.1:40001/push:0000-amd64-1"):
        make_image(board, name)
    theirs = {"archloom/theirs:1", "archloom/theirs:amd64-1", "127.0.0.1:5000/push:latest"}
    for name in theirs:
        make_image(board, name)
    locks = board.run("docker info --format '/run/lock/archloom-{{.ID}}'").strip().replace(":", "-")
    board.run(f"su pi -c 'mkdir -p {locks}; touch {locks}/slot-0'")
    refused = home.run("boards", "remove", "pi5", "--purge")
    assert refused.returncode == 5
    assert "pi5 has jobs of runs that are not over: 7f3a-amd64-1" in refused.stderr
    removed = good(home.run("boards", "remove", "pi5", "--purge", "--yes"))
    assert "deleted 1 job" in removed.stderr
    assert images(board) == theirs
    assert board.run(f"ls -d {locks} {state} /home/pi/.cache/archloom 2>/dev/null || true") == ""
    left = board.run("find /home/pi /var/tmp /run/lock -name '*archloom*'")
    assert left == "", left


def test_a_slot_that_is_held_keeps_what_it_may_need(home: Home, own_board: OwnBoard):
    """Another user's build goes on with its bases: they are left, and that is told."""
    board = own_board(name="pi5", user="pi")
    ssh_home(home.folder, board)
    good(home.run("boards", "add", "pi5"))
    make_image(board, "localhost:1/library/base:1-00")
    locks = board.run("docker info --format '/run/lock/archloom-{{.ID}}'").strip().replace(":", "-")
    board.run(f"mkdir -p {locks}; chmod 1777 {locks}; touch {locks}/slot-0; chmod 666 {locks}/slot-0")
    board.run(f"flock -n {locks}/slot-0 -c 'setsid sleep 600 >/dev/null 2>&1 &'")
    removed = good(home.run("boards", "remove", "pi5", "--purge"))
    assert "left images and lock files that another user's builds may need" in removed.stderr
    assert "localhost:1/library/base:1-00" in images(board)


def test_a_board_that_is_off_stays_listed(home: Home, own_board: OwnBoard):
    """A purge needs the board; the way out is told, and works."""
    board = own_board(name="pi5", user="pi", engine=False)
    ssh_home(home.folder, board)
    assert home.run("boards", "add", "pi5").returncode == 5
    board.power_off()
    refused = home.run("boards", "remove", "pi5", "--purge")
    assert refused.returncode == 5
    assert "archloom boards remove pi5" in refused.stderr
    good(home.run("boards", "remove", "pi5"))


def test_a_running_build_is_not_ended_unasked(home: Home, own_board: OwnBoard):
    """Whose it is does not matter: the job is named, and `--yes` ends it."""
    board = own_board(name="pi5", user="pi", engine=False)
    ssh_home(home.folder, board)
    assert home.run("boards", "add", "pi5").returncode == 5
    state = board.run("echo /home/pi/.local/state/archloom-agent/*").strip()
    begin = (
        f"import json, os, pathlib, subprocess; folder = pathlib.Path('{state}/jobs/7f3a-amd64-1');"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True);"
        "start = int(open(f'/proc/{child.pid}/stat').read().rpartition(')')[2].split()[19]);"
        "boot = open('/proc/sys/kernel/random/boot_id').read().strip();"
        "known = dict(pid=child.pid, start_time=start, boot_id=boot, slot=0);"
        "(folder / 'process.json').write_text(json.dumps(known))"
    )
    board.run(f"cat >/tmp/job.py; su pi -c 'python3 /tmp/job.py {state}'", stdin=OLD_JOB)
    board.run("cat >/tmp/begin.py", stdin=begin)
    said(home.folder, board, "python3 /tmp/begin.py >/dev/null 2>&1 </dev/null")  # by the board's clock
    refused = home.run("boards", "remove", "pi5", "--purge")
    assert refused.returncode == 5, refused.stderr
    assert "pi5 is building: 7f3a-amd64-1" in refused.stderr
    good(home.run("boards", "remove", "pi5", "--purge", "--yes"))
    assert board.run("pgrep -f 'sleep 60[0]' || true") == ""
