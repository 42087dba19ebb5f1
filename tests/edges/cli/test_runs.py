"""`archloom runs` and `archloom runs prune`, over a state folder that the test fills."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from coordinator.domain.run.states import TargetEvent
from tests.edges.state.state_bed import StateBed, dead_driver, state_bed


@pytest.fixture
def bed(tmp_path):
    """A run of every kind, a day apart, the newest last."""
    with state_bed(tmp_path / "home") as opened:
        opened.at = 100 * 86400.0
        opened.begin("aaaa", tag="nas.lan:5000/app:1")
        opened.publish("aaaa")
        opened.at = 101 * 86400.0
        opened.begin("bbbb", tag="nas.lan:5000/app:2")
        opened.fail("bbbb")
        opened.at = 102 * 86400.0
        opened.begin("cccc", tag="ann/tool:1")
        opened.store.move_target("cccc", TargetEvent.GIVE_UP)
        opened.store.finish("cccc", 130)
        opened.at = 103 * 86400.0
        opened.begin("dddd", driver=dead_driver())
        opened.at = None
        opened.begin("eeee")
        yield opened


def listed(bed: StateBed, *words: str) -> list[str]:
    return [run["run"] for run in json.loads(good(bed, *words, "--json").stdout)]


def good(bed: StateBed, *words: str) -> subprocess.CompletedProcess[str]:
    done = bed.home.run("runs", *words)
    assert done.returncode == 0, done.stderr
    return done


def test_who_drives_a_run_or_that_nobody_does(bed):
    """One word for each, which --state takes; the next command stands below, where it is in nobody's way."""
    done = good(bed)
    rows = [(row.split()[0], re.split(" {2,}", row)[2]) for row in done.stdout.splitlines()]

    assert rows == [
        ("RUN", "STATE"),
        ("eeee", "running (ann@desk)"),
        ("dddd", "interrupted"),
        ("cccc", "cancelled"),
        ("bbbb", "failed"),
        ("aaaa", "published"),
    ]
    assert done.stderr == "hint: go on with it: archloom resume dddd\n"


def test_the_keys_a_program_reads(bed):
    """The state is the word of the table and of --state."""
    done = good(bed, "--json", "-n", "1")
    first = json.loads(done.stdout)[0]

    assert list(first) == [
        "run", "created_at", "finished_at", "exit_code", "state", "driver", "digest", "tags", "platforms"
    ]  # fmt: skip
    assert (first["run"], first["state"], first["driver"]["holder"]) == ("eeee", "running", "ann@desk")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ((), ["eeee", "dddd", "cccc", "bbbb", "aaaa"]),
        (("list",), ["eeee", "dddd", "cccc", "bbbb", "aaaa"]),
        (("-n", "2"), ["eeee", "dddd"]),
        (("--state", "running", "--state", "interrupted"), ["eeee", "dddd"]),
        (("--state", "running"), ["eeee"]),
        (("--state", "interrupted"), ["dddd"]),
        (("--state", "published"), ["aaaa"]),
        (("--state", "failed"), ["bbbb"]),
        (("--state", "cancelled"), ["cccc"]),
        (("--tag", "nas.lan:5000/app:2"), ["bbbb"]),
        (("--tag", "nas.lan:5000/app"), ["eeee", "dddd", "bbbb", "aaaa"]),
        (("--tag", "nas.lan:5000/app", "--limit", "1"), ["eeee"]),
        (("--tag", "docker.io/ann/tool:1"), ["cccc"]),
        (("--tag", "nas.lan:5000/app", "--state", "failed"), ["bbbb"]),
        (("--tag", "nas.lan:5000/other"), []),
    ],
)
def test_filters(bed, words, runs):
    """By how a run stands and by tag, however one writes it; the limit counts what is left."""
    assert listed(bed, *words) == runs


def test_no_such_runs(bed):
    """It is said on stderr; data there is none."""
    done = good(bed, "--tag", "nas.lan:5000/other")

    assert (done.stdout, done.stderr) == ("", "no matching runs\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prnue"], "no such command: prnue\nhint: did you mean prune?\n"),
        (["--state", "odd"], "invalid value for '--state': 'odd' is not one of"),
        (["-n", "0"], "invalid value for '-n' / '--limit': 0 is not in the range x>=1"),
        (["--tag", "a b"], "invalid reference 'a b': invalid repository 'a b'"),
        (["--tag", ""], "invalid reference '': no repository is named\nhint: write name:tag"),
        (["prune", "--older-than", "30"], "expected a time such as 5s, 20m or 24h, found '30' — add a unit"),
        (["prune", "--keep", "1", "--older-than", "30d"], "--keep and --older-than cannot be combined"),
    ],
)
def test_wrong_words(bed, words, says):
    """Exit 2, and nothing is deleted."""
    done = bed.home.run("runs", *words)

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(bed.store.runs()) == 5


def test_prune_forgets_what_ended_long_ago(bed):
    """Runs and their folders; what has not ended stays however old it is."""
    dry = good(bed, "prune", "--dry-run")
    assert [row.split()[0] for row in dry.stdout.splitlines()] == ["RUN", "aaaa", "bbbb", "cccc"]
    assert dry.stderr.startswith("3 runs, ")
    assert dry.stderr.endswith(" would be deleted\n")
    assert len(bed.store.runs()) == 5

    done = good(bed, "prune")

    assert done.stderr.startswith("3 runs, ")
    assert done.stderr.endswith(" deleted\n")
    assert listed(bed) == ["eeee", "dddd"]
    assert sorted(path.name for path in (bed.home.state / "runs").iterdir()) == ["dddd", "eeee"]
    assert good(bed, "prune").stderr == "0 runs, 0 B deleted\n"


def test_prune_keeps_the_latest(bed):
    """As many as are asked for."""
    told = json.loads(good(bed, "prune", "--keep", "1", "--json").stdout)

    assert told["runs"] == ["aaaa", "bbbb"]
    assert told["bytes"] > 0
    assert listed(bed) == ["eeee", "dddd", "cccc"]


def test_without_runs(tmp_path):
    """A new user has none."""
    with state_bed(tmp_path / "home") as empty:
        assert good(empty).stderr == "no runs yet\n"
        assert good(empty, "prune").stderr == "0 runs, 0 B deleted\n"
