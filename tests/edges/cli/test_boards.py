"""`archloom boards` and `--on` as a user types them, over this machine and a port where nothing listens."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from coordinator.cli.main import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with an inventory: this machine, and a board whose sshd does not run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "inventory.yaml").write_text(
        f"boards:\n  pi4: {{host: 127.0.0.1, port: {port}, user: pi}}\nemulators: {{here: local}}\n"
    )
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    for name in ("ARCHLOOM_INVENTORY", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def boards(capsys, *words: str) -> dict[str, dict]:
    assert run(["boards", "--json", *words]) == 0
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)}


def test_a_second_look_is_from_memory(folder, capsys):
    """Both what a host is and that another is dead; --refresh asks the hosts it names, or all."""
    first, second = boards(capsys), boards(capsys)
    again = boards(capsys, "--refresh", "pi4")

    assert [one["cached"] for one in first.values()] == [False, False]
    # Without an engine it is blocked, and asked again each time.
    sound = first["here"]["engine"] is not None
    assert [one["cached"] for one in second.values()] == [True, sound]
    assert second["here"]["cores"] == first["here"]["cores"] > 0
    assert second["pi4"]["age_seconds"] > 0
    assert (second["here"]["age_seconds"] > 0) is sound
    assert (second["pi4"]["state"], second["pi4"]["alive"]) == ("unreachable", False)
    assert second["pi4"]["message"] == first["pi4"]["message"]
    assert list(again) == ["pi4"]
    assert not again["pi4"]["cached"]


def test_the_table_has_the_age_and_the_cure(folder, capsys):
    """A row for each host; what is wrong with one comes below, with the next command."""
    assert run(["boards"]) == 0
    told = capsys.readouterr()

    assert told.out.splitlines()[0].endswith("AGE")
    assert [line.split()[0] for line in told.out.splitlines()[1:]] == ["pi4", "here"]
    assert "pi4: nothing listens on 127.0.0.1 port" in told.err
    assert "systemctl enable --now ssh" in told.err
    assert "--refresh" not in told.err
    assert run(["boards"]) == 0
    assert "  hint: is it back? archloom boards --refresh pi4\n" in capsys.readouterr().err


def test_one_host_in_full(folder, capsys):
    """By its name alone, with what is wrong with it."""
    assert run(["boards", "pi4"]) == 0
    told = capsys.readouterr().out

    assert told.startswith("pi4\n  kind      board\n  address   ssh://pi@127.0.0.1:")
    assert "unreachable, as of now" in told
    assert "blocking: nothing listens on" in told
    assert "here" not in told


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["boards", "pi5"], "unknown host 'pi5'", "did you mean pi4?"),
        (["boards", "--refresh", "hree"], "unknown host 'hree'", "did you mean here?"),
        (["plan", ".", "-t", "x/y", "--on", "pi4,pi6"], "unknown host 'pi6' in --on", "did you mean pi4?"),
        (
            ["plan", ".", "-t", "x/y", "--on", "linux/arm64=pi4", "--on", "linux/arm64=here"],
            "--on gives linux/arm64 to pi4 and to here",
            "name one host for each platform",
        ),
        (
            ["plan", ".", "-t", "x/y", "--platform", "linux/amd64", "--on", "linux/arm64=pi4"],
            "--on linux/arm64=pi4: linux/arm64 is not built in this run",
            "choose from linux/amd64, or change --platform",
        ),
        (["plan", ".", "-t", "x/y", "--on", ","], "',' in --on names no host", "write --on HOST or --on PLATFORM=HOST"),
    ],
)
def test_a_name_that_is_no_host_s_is_refused(folder, words, said, hint, capsys):
    """Exit 2 with the likely name, before any host is asked."""
    assert run(words) == 2
    assert capsys.readouterr().err == f"error: {said}\nhint: {hint}\n"


def test_a_state_folder_that_cannot_be_used_is_no_obstacle(folder, capsys):
    """The hosts are shown all the same, and a line says that nothing is remembered."""
    (folder / ".local").mkdir()
    (folder / ".local" / "state").write_text("")

    assert run(["boards"]) == 0
    told = capsys.readouterr()
    assert "no facts of the hosts are cached" in told.err
    assert "pi4" in told.out
