"""Passwords that are typed wrongly, as `boards add` takes them."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.archloom import Home
from tests.edges.hosts.test_enrol import PASSWORD, OwnBoard, home, keys, typed

__all__ = ["home"]


def test_a_wrong_password_changes_nothing(home: Home, own_board: OwnBoard):
    """It is asked three times, never shown, and the error says whose it should be."""
    board = own_board(name="pi5", user="pi", authorized=False, password=PASSWORD, engine=False)
    with typed(home, "boards", "add", "--yes", f"pi@{board.address}") as at:
        at.answer("Is it the same?", "yes")
        for _ in range(3):
            at.answer("Password of", "battery staple")
        assert at.end() == 5, at.shown
    assert "the password was not accepted for pi@" in at.shown
    assert "battery" not in at.shown
    assert not (home.folder / ".ssh").exists()
    assert keys(board) == []


def test_a_mistyped_password_is_typed_again(home: Home, own_board: OwnBoard):
    """As with ssh; nothing else is asked twice. What the host says first is shown, as far as it can be read."""
    board = own_board(
        name="pi5", user="pi", authorized=False, password=PASSWORD, engine=False, sshd=("Banner /etc/banner",)
    )
    Path(f"/proc/{board.pid}/root/etc/banner").write_bytes(b"Zutritt nur f\xfcr Berechtigte\n")
    with typed(home, "boards", "add", "--yes", f"pi@{board.address}") as at:
        at.answer("Is it the same?", "yes")
        at.expect("says:\nZutritt nur f\ufffdr Berechtigte")
        at.answer("Password of", "battery staple")
        at.expect("the password was not accepted for pi@")
        at.expect("try again")
        at.answer("Password of", PASSWORD)
        at.expect("installed the key ~/.ssh/id_ed25519")
        assert at.end() == 5, at.shown  # no engine yet
    assert at.shown.count("Is it the same?") == 1
