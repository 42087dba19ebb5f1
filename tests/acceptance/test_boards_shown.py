"""`archloom boards` and `plan` over real boards: what is remembered, and what is said of one that is off."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest

from tests.acceptance.archloom import Home, context, good
from tests.services.ssh_home import ssh_home

pytestmark = pytest.mark.engine


@pytest.fixture
def farm_home(farm, tmp_path) -> Home:
    """A user with three boards, and this machine as the emulator."""
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    ssh_home(home.folder, *farm.values())
    (home.folder / "inventory.yaml").write_text("boards: {pi-a: , pi-b: , pi-c: }\nemulators: {local: local}\n")
    context(home.folder / "src", "FROM scratch\nCOPY Dockerfile /\n")
    return home


def shown(home: Home, *words: str) -> dict[str, dict]:
    return {one["name"]: one for one in json.loads(good(home.run("boards", "--json", *words)).stdout)}


def plan(home: Home, *words: str):
    return home.run("plan", "src", "-t", "localhost:5000/x:1", *words)


def age_everything(home: Home, seconds: float) -> None:
    """As if the last look at every host had been that much earlier."""
    db = sqlite3.connect(home.state / "archloom.db")
    db.execute("UPDATE facts SET seen_at = seen_at - ?, silent_at = silent_at - ?", (seconds, seconds))
    db.commit()
    db.close()


def test_facts_are_remembered_with_their_age(farm, farm_home):
    """A second look asks nobody, five minutes later everybody is asked again, and --refresh asks at once."""
    first = shown(farm_home)
    second = shown(farm_home)
    refreshed = shown(farm_home, "pi-a", "--refresh")
    age_everything(farm_home, 301)
    later = shown(farm_home)

    assert [one["cached"] for one in first.values()] == [False] * 4
    assert first["pi-a"]["platforms"]["native"] == ["linux/amd64"]
    assert [one["cached"] for one in second.values()] == [True] * 4
    assert all(0 < one["age_seconds"] < 60 for one in second.values())
    assert list(refreshed) == ["pi-a"]
    assert not refreshed["pi-a"]["cached"]
    assert not any(one["cached"] for one in later.values())


def test_a_board_that_is_off_costs_five_seconds_once_a_minute(farm, farm_home):
    """The first plan waits for it as long as it has, the next says when it was tried; what was known of it is shown."""
    shown(farm_home)
    farm["pi-b"].power_off()
    began = time.monotonic()
    first = plan(farm_home, "--platform", "linux/amd64", "--on", "pi-b")
    cost = time.monotonic() - began
    second = good(plan(farm_home, "--platform", "linux/amd64"))
    dead = shown(farm_home)["pi-b"]
    age_everything(farm_home, 61)
    farm["pi-b"].power_on()
    third = good(plan(farm_home, "--platform", "linux/amd64"))

    assert f"no SSH answer from {farm['pi-b'].address} port 22 in 5 s" in first.stdout
    assert first.returncode == 5
    # The five seconds, and what a busy machine takes for the rest.
    assert cost < 15
    assert "s ago; it is asked again in" in second.stdout
    assert (dead["state"], dead["cached"]) == ("unreachable", True)
    assert dead["last_seen"]["platforms"]["native"] == ["linux/amd64"]
    assert "s ago; it is asked again in" not in third.stdout


def test_exit_codes_tell_what_a_dead_board_could_have_done(farm, farm_home):
    """Known to be amd64 it could never have built arm64: 3. Never seen it might have: 5."""
    words = ("--platform", "linux/arm64", "--emulate", "never")
    farm["pi-c"].power_off()
    unknown = plan(farm_home, *words)
    farm["pi-c"].power_on()
    age_everything(farm_home, 61)
    shown(farm_home)
    farm["pi-c"].power_off()
    known = plan(farm_home, *words)

    assert unknown.returncode == 5, unknown.stderr
    assert known.returncode == 3, known.stderr
    assert "when it last answered" in known.stderr


def test_two_entries_for_one_board_are_found_out(farm, farm_home):
    """A name and an address of the same board: the second entry is left out, with the line to remove."""
    board = farm["pi-a"]
    entry = f"{{host: {board.second_address}, user: {board.user}}}"
    (farm_home.folder / "inventory.yaml").write_text(
        f"boards:\n  pi-a:\n  twin: {entry}\nemulators: {{local: local}}\n"
    )

    told = good(farm_home.run("boards"))
    planned = good(plan(farm_home, "--platform", "linux/amd64"))
    named = good(plan(farm_home, "--platform", "linux/amd64", "--on", "twin"))

    assert (
        f"twin: twin (ssh://{board.user}@{board.second_address}) and pi-a (ssh://pi-a) are the same machine"
        in told.stderr
    )
    assert f"remove the entry twin: under boards: in {farm_home.folder}/inventory.yaml" in told.stderr
    assert "are the same machine" in planned.stdout
    assert "builds" in named.stdout


def test_a_pin_that_contradicts_the_board_is_said(farm, farm_home):
    """In `boards`, and by the plan of a platform it is wrong about."""
    (farm_home.folder / "inventory.yaml").write_text("boards: {pi-a: {platforms: [linux/arm64]}}\n")

    told = good(farm_home.run("boards", "pi-a"))
    failed = plan(farm_home, "--platform", "linux/arm64")

    assert "warning: the inventory says platforms: linux/arm64, and the probe found linux/amd64" in told.stdout
    assert failed.returncode == 3
    assert "correct platforms: of pi-a in the inventory" in failed.stderr


def test_one_board_in_full(farm, farm_home):
    """Everything known of it, with what it builds by which mode, and where its key is from."""
    text = good(farm_home.run("boards", "pi-a")).stdout

    for word in ("native", "compat", "slots", "ssh://pi-a", "known_hosts", "disk", "memory", "pages", "as of now"):
        assert word in text, word


def test_a_board_that_is_off_changes_a_line(farm, farm_home, registry):
    """The same platforms under the same tag; who is left out is said once, with why."""
    shown(farm_home)
    src = context(farm_home.folder / "app", "FROM scratch\nARG N\nCOPY Dockerfile /\n")
    words = ("build", str(src), "-t", f"{registry.address}/planner/off:1", "--progress", "plain", "--json")
    whole = good(farm_home.run(*words, "--build-arg", "N=1"))
    for one in ("pi-a", "pi-b"):
        farm[one].power_off()
    less = good(farm_home.run(*words, "--build-arg", "N=2"))
    again = good(farm_home.run(*words, "--build-arg", "N=3"))

    assert list(json.loads(less.stdout)["archloom"]["platforms"]) == list(
        json.loads(whole.stdout)["archloom"]["platforms"]
    )
    assert "left out" not in whole.stderr
    left = [line for line in less.stderr.splitlines() if "left out" in line]
    assert [line.split()[1] for line in left] == ["pi-a", "pi-b"]
    assert json.loads(again.stdout)["archloom"]["platforms"]["linux/amd64"]["mode"] == "native"
