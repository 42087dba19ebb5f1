"""From nothing to a tag: a user with two boards, a registry and the README, and back to nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.archloom import COMMAND, Home, context, good
from tests.services.boards import Board
from tests.services.images import base_image
from tests.services.judges import skopeo_inspect
from tests.services.registry import Registry
from tests.services.terminal import Terminal, terminal

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.usefixtures("emulation")]

PASSWORD = "raspberry"
PLATFORMS = ("linux/amd64", "linux/386", "linux/arm64")


def added(home: Home, board: Board, answers: Callable[[Terminal], None]) -> tuple[int, str]:
    """`boards add` by somebody who compares the fingerprint and types the password."""
    words = [COMMAND, "boards", "add", f"pi@{board.address}", "--name", board.name]
    with terminal(words, home.environment, home.folder) as there:
        there.expect(board.fingerprint)
        there.answer("Is it the same?", "y")
        answers(there)
        there.answer("Password of", PASSWORD)
        return there.end(), there.shown


@pytest.mark.parametrize("system", [{}, {"system": "sid", "store": "containerd"}], ids=["2022", "today"])
def test_from_two_new_boards_to_a_tag_and_back(
    own_board: Callable[..., Board], home: Home, registry: Registry, tmp_path: Path, system: dict[str, str]
):
    """Added by password, one cured on the way, built natively with QEMU for the rest, a key changed, purged again."""
    fields = {"user": "pi", "password": PASSWORD, "authorized": False, **system}
    pi4, pi5 = own_board(name="pi4", **fields), own_board(name="pi5", groups=(), **fields)
    before = [set(board.run("find /home/pi /var/tmp /run/lock").split()) for board in (pi4, pi5)]
    base = base_image(registry, *PLATFORMS, repository="journey/base")
    app = context(tmp_path / "app", f"FROM {base.reference}\nRUN echo made >/made\n")
    tag = f"{registry.address}/journey/app:1"

    first = added(home, pi4, lambda there: there.answer("Create ~/.ssh/id_ed25519", "y"))
    second = added(home, pi5, lambda _: None)
    assert (first[0], second[0]) == (0, 5), first[1] + second[1]
    assert "sudo usermod -aG docker pi" in second[1]
    pi5.run("usermod -aG docker pi")
    built = good(home.run("build", str(app), "-t", tag, "--platform", ",".join(PLATFORMS)))
    assert "(emulated: linux/arm64)" in built.stderr.splitlines()[-1]
    assert [skopeo_inspect(tag, one)["Architecture"] for one in PLATFORMS] == ["amd64", "386", "arm64"]

    pi4.new_host_key()
    assert "archloom boards trust pi4" in home.run("boards", "pi4", "--refresh").stdout
    good(home.run("boards", "trust", "pi4", "--host-key", pi4.fingerprint))
    assert "active" in good(home.run("boards", "pi4", "--refresh")).stdout

    for board, there_before in zip((pi4, pi5), before, strict=True):
        good(home.run("boards", "remove", board.name, "--purge"))
        left = set(board.run("find /home/pi /var/tmp /run/lock").split()) - there_before
        assert {Path(path).name for path in left} <= {".cache", ".local", "state", ".ssh", "authorized_keys"}
        assert board.run("cat /home/pi/.ssh/authorized_keys") == ""
        assert board.docker("images", "--quiet") == ""
