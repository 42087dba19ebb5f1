"""SIGKILL at every committed state of a real build: the run goes on to the same index, and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.acceptance.archloom import BEGUN, PATIENCE, Home, context, eventually, follow, good
from tests.services.commands import run_limited
from tests.services.images import base_image
from tests.services.judges import skopeo_raw
from tests.services.paths import ROOT
from tests.services.registry import Registry
from tests.services.ssh_home import ssh_home

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.usefixtures("emulation", "nothing_left")]

BOTH = ("linux/amd64", "linux/arm64")
KILLED = -9
# More than a run of two platforms has; a run that was never left alone would go round in circles.
MOST_COMMITS = 100


@dataclass(frozen=True, slots=True)
class Bed:
    """One context, built again and again into repositories of their own, so that nothing is reused but layers."""

    home: Home
    registry: Registry
    folder: Path

    def words(self, repository: str) -> tuple[str, ...]:
        tags = [f"{self.registry.address}/{repository}:{tag}" for tag in ("1", "latest")]
        flags = (word for tag in tags for word in ("-t", tag))
        return ("build", str(self.folder), *flags, "--platform", ",".join(BOTH), "--json")

    def dying(self, commits: int, *words: str) -> subprocess.CompletedProcess[str]:
        """The command, which kills itself after so many commits of the run."""
        return run_limited(
            [sys.executable, "-m", "tests.acceptance.dying", str(commits), *words],
            cwd=ROOT,
            env=self.home.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def newest(self) -> dict[str, Any]:
        return json.loads(good(self.home.run("runs", "--json")).stdout)[0]

    @property
    def left_on_the_host(self) -> list[Path]:
        return list((self.home.folder / ".local/state/archloom-agent").glob("*/jobs/[a-z0-9]*"))


@pytest.fixture
def bed(own_registry, home, tmp_path) -> Bed:
    # No layer is the same for both platforms: two pushes at once may both send what neither sees yet.
    running = own_registry()
    base = base_image(running, *BOTH, repository="killed/base")
    files = {platform.split("/")[1]: platform for platform in BOTH}
    steps = "ARG TARGETARCH\nCOPY $TARGETARCH /platform\nRUN uname -m >/machine\n"
    made = f"RUN echo {token_hex(8)} $TARGETARCH >/made\n"
    return Bed(home, running, context(tmp_path / "app", f"FROM {base.reference}\n{steps}{made}", files))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("first", "sign"), [(1, 1), (2, -1)], ids=["after", "instead"])
def test_killed_at_every_commit(bed: Bed, first: int, sign: int):
    """Right after it, or in its place, when what it was to say is done.

    Same index digest, no finished platform rebuilt, no layer sent twice, nothing left over.
    """
    reference = json.loads(good(bed.home.run(*bed.words("reference"))).stdout)["containerimage.digest"]
    for commits in count(first):
        assert commits < MOST_COMMITS
        repository = f"killed/{commits}"
        died = bed.dying(sign * commits, *bed.words(repository))
        if died.returncode == 0:
            break
        assert died.returncode == KILLED, died.stderr
        run = bed.newest()
        assert run["exit_code"] is None or run["state"] == "published"

        if run["exit_code"] is None:
            resumed = json.loads(good(bed.home.run("resume", run["run"], "--json")).stdout)
            assert resumed["containerimage.digest"] == reference, f"killed after commit {commits}"
            assert resumed["archloom"]["run"] == run["run"]

        judge(bed, run["run"], repository, reference, f"killed after commit {commits} ({run['state']})")
    assert commits > 20


def test_each_coordinator_is_killed_after_a_few_commits(bed: Bed):
    """They come one after the other, and none makes more than five commits: the run still ends, the same."""
    reference = json.loads(good(bed.home.run(*bed.words("reference"))).stdout)["containerimage.digest"]
    died = bed.dying(5, *bed.words("chain"))
    run = bed.newest()["run"]
    deaths = 0
    while died.returncode == KILLED and bed.newest()["exit_code"] is None:
        deaths += 1
        assert deaths < MOST_COMMITS
        died = bed.dying(5, "resume", run)

    assert died.returncode in (0, KILLED), died.stderr
    assert deaths > 3
    judge(bed, run, "chain", reference, "killed after every fifth commit")


def test_a_board_goes_on_building_for_nobody(home, farm, registry, tmp_path):
    """Its coordinator is killed; what it has built when the next one comes is pushed, and its log is whole."""
    board = farm["pi-a"]
    ssh_home(home.folder, board)
    (home.folder / "inventory.yaml").write_text("boards: {pi-a: ssh://pi-a}\n")
    base = base_image(registry, "linux/amd64", repository="killed/base")
    folder = context(
        tmp_path / "alone", f"FROM {base.reference}\nRUN echo begun; sleep 4; echo ended; echo {token_hex(8)} >/made\n"
    )
    tag = f"{registry.address}/killed/alone:1"
    process = home.start("build", str(folder), "-t", tag, "--platform", "linux/amd64")
    follow(process, BEGUN)
    process.kill()
    process.communicate(timeout=60)
    [begun] = json.loads(good(home.run("runs", "--json")).stdout)
    [job_folder] = board.jobs_of(begun["run"])
    assert not (job_folder / "result.json").exists(), "it has ended before its coordinator was gone"
    eventually((job_folder / "result.json").exists)

    done = good(home.run("resume"))

    assert "published" in done.stderr
    [run] = json.loads(good(home.run("runs", "--json")).stdout)
    [job] = run["platforms"].values()
    assert [(one["host"], one["state"]) for one in job["attempts"]] == [("pi-a", "pushed")]
    log = good(home.run("logs", run["run"], "linux/amd64")).stdout
    assert [len(re.findall(rf"(?m)^#\d+ [\d.]+ {word}$", log)) for word in ("begun", "ended")] == [1, 1]
    eventually(lambda: not board.jobs_of(run["run"]))
    images = board.docker("images", "--format", "{{.Repository}}")
    assert f"archloom/{run['run']}" not in images


def judge(bed: Bed, run: str, repository: str, reference: str, when: str) -> None:
    shown = bed.newest()
    assert (shown["run"], shown["state"], shown["exit_code"]) == (run, "published", 0), when
    for job in shown["platforms"].values():
        assert [one["state"] for one in job["attempts"]] == ["pushed"], when
    for tag in ("1", "latest"):
        assert digest_of(f"{bed.registry.address}/{repository}:{tag}") == reference, when
    assert max(bed.registry.uploads(repository).values()) == 1, when
    # What a coordinator asked for before its end, an agent finishes without it.
    eventually(lambda: not bed.left_on_the_host)
    # An agent notices that its coordinator is gone by the end of its input.
    eventually(lambda: not processes_of(bed.home))


def processes_of(home: Home) -> list[str]:
    found = run_limited(["pgrep", "-f", str(home.folder)], capture_output=True, text=True)
    return found.stdout.split()


def digest_of(tag: str) -> str:
    return f"sha256:{hashlib.sha256(skopeo_raw(tag)).hexdigest()}"
