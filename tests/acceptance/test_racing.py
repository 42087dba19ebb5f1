"""Two coordinators want the same: one drives a run, and a tag names one whole index, whoever comes when."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from secrets import token_hex

import pytest

from tests.acceptance.archloom import BEGUN, COMMAND, Home, context, eventually, follow, good
from tests.services.commands import Child
from tests.services.images import base_image
from tests.services.judges import skopeo_inspect, skopeo_raw
from tests.services.missing import missing
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("emulation", "nothing_left")]

BOTH = ("linux/amd64", "linux/arm64")


def digest_of(tag: str) -> str:
    return f"sha256:{hashlib.sha256(skopeo_raw(tag)).hexdigest()}"


def slow(folder: Path, base: str, seconds: int) -> Path:
    return context(folder, f"FROM {base}\nRUN echo begun; sleep {seconds}; echo {token_hex(8)} >/made\n")


def test_of_several_that_resume_one_drives(registry, home, tmp_path):
    """They come at once to a run whose coordinator is dead: one goes on, the others are told who does."""
    base = base_image(registry, "linux/amd64", repository="racing/base")
    tag = f"{registry.address}/racing/several:1"
    dead = home.start("build", str(slow(tmp_path / "app", base.reference, 6)), "-t", tag, "--platform", "linux/amd64")
    follow(dead, BEGUN)
    dead.kill()
    dead.communicate(timeout=60)

    rivals = [home.start("resume", "--json") for _ in range(3)]
    ends = [(rival.communicate(timeout=120), rival.returncode) for rival in rivals]

    assert sorted(code for _, code in ends) == [0, 7, 7], ends
    winner = next(rival for rival in rivals if rival.returncode == 0)
    assert all(f"pid {winner.pid}" in said[1] for said, code in ends if code == 7)
    [run] = json.loads(good(home.run("runs", "--json")).stdout)
    [job] = run["platforms"].values()
    assert [one["state"] for one in job["attempts"]] == ["pushed"]
    assert run["state"] == "published"


@pytest.mark.slow  # nobody can tell whether a process of another machine lives: its lease is stale after 30 s
def test_one_that_wakes_up_replaced_drops_out(registry, home, farm, tmp_path):
    """Stopped for longer than its lease, as a laptop that sleeps: another finishes the run and a third moves the tag
    again. When it wakes it ends with 7, and the tag stays what it is."""
    board = farm["pi-a"]
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text("boards: {pi-a: ssh://pi-a}\n")
    base = base_image(registry, "linux/amd64", repository="racing/base")
    tag = f"{registry.address}/racing/sleeper:1"
    folder = slow(tmp_path / "app", base.reference, 3)
    words = ("build", str(folder), "-t", tag, "--platform", "linux/amd64")
    sleeper, pid = elsewhere(home, *words)
    follow(sleeper, BEGUN)
    os.kill(pid, signal.SIGSTOP)
    [run] = json.loads(good(home.run("runs", "--json")).stdout)

    refused = home.run("resume", run["run"])
    taken = eventually(lambda: (done := home.run("resume", run["run"])).returncode != 7 and done)
    finished = digest_of(tag)
    (folder / "Dockerfile").write_text(f"FROM {base.reference}\nRUN echo another >/made\n")
    good(home.run(*words))
    newer = digest_of(tag)
    os.kill(pid, signal.SIGCONT)
    said = sleeper.communicate(timeout=60)[1]

    assert refused.returncode == 7
    assert "is driven by" in refused.stderr
    good(taken)
    assert sleeper.returncode == 7, said
    assert f"run {run['run']}" in said
    assert newer != finished
    assert digest_of(tag) == newer
    after = next(one for one in json.loads(good(home.run("runs", "--json")).stdout) if one["run"] == run["run"])
    assert (after["state"], after["exit_code"]) == ("published", 0)
    eventually(lambda: not board.jobs_of(run["run"]))


def elsewhere(home: Home, *words: str) -> tuple[Child, int]:
    """The command where its pids mean nothing to others, as on another machine with the same state folder; its pid."""
    process = Child(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", COMMAND, *words],
        cwd=home.folder,
        env=home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = eventually(lambda: process.poll() is not None or children.read_text())
    if found is True:
        missing(f"no other pid space can be made here: {process.communicate()[1].strip()}")
    return process, int(str(found))


def test_two_runs_that_move_one_tag(registry, home, tmp_path):
    """Again and again: each ends well or is told that somebody else moves it, and the tag names one whole index."""
    base = base_image(registry, *BOTH, repository="racing/base")
    tag = f"{registry.address}/racing/tag:1"
    folder = context(tmp_path / "app", f"FROM {base.reference}\nARG WHO\nRUN echo $WHO >/who\n")
    words = ("build", str(folder), "-t", tag, "--platform", ",".join(BOTH), "--json", "--build-arg")
    for _ in range(6):
        rivals = [home.start(*words, f"WHO={who}") for who in ("ada", "bob")]
        said = [rival.communicate(timeout=120) for rival in rivals]

        ends = [rival.returncode for rival in rivals]
        assert set(ends) <= {0, 6}, said
        assert 0 in ends, said
        published = {
            json.loads(out)["containerimage.digest"] for (out, _), end in zip(said, ends, strict=True) if not end
        }
        assert all("somebody else moves it" in told for (_, told), end in zip(said, ends, strict=True) if end)
        assert digest_of(tag) in published
        for platform in BOTH:
            assert skopeo_inspect(tag, platform)["Architecture"] == platform.split("/")[1]
