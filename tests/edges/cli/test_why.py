"""`archloom why`, over a state folder that the test fills, and what a run keeps of its inputs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from coordinator.context.offer import LazyOffer
from coordinator.context.tree import scan
from coordinator.domain.dockerfile.context_sources import ContextUse
from coordinator.domain.dockerfile.dockerignore import compile_ignore
from coordinator.domain.dockerfile.stages import parse
from coordinator.domain.placement.eligibility import Rejection, RejectionReason
from coordinator.domain.placement.plan import Placement, Plan
from coordinator.domain.run.events import Event, Notice, Waiting
from coordinator.domain.run.model import Run
from coordinator.domain.run.states import AttemptEvent, TargetState
from coordinator.domain.why.built_from import BuiltFrom, KeptInputs
from coordinator.run.inputs.gather import Inputs
from coordinator.run.inputs.snapshot import built_from, keep_inputs
from coordinator.run.inputs.taken_context import TakenContext
from tests.acceptance.archloom import COMMAND
from tests.edges.state.state_bed import AMD64, ARM64, DIGEST, TAG, dead_driver, state_bed
from tests.services.terminal import terminal

RUN = Run(
    id="7f3a",
    request={"a": 1},
    target_state=TargetState.OPEN,
    index_digest="",
    jobs=(),
    inputs={"contexts": {"linux/amd64": "x"}},
)
PLAN = Plan(
    (
        Placement(
            AMD64,
            (),
            (
                Rejection("pi4", RejectionReason.PLATFORM, "512 MiB of memory"),
                Rejection("pi3", RejectionReason.PLATFORM, "512 MiB of memory"),
            ),
        ),
    )
)


@pytest.fixture
def bed(tmp_path):
    with state_bed(tmp_path / "home") as opened:
        yield opened


def test_the_account_of_a_run(bed):
    """How it ended and the one before it, who drove it, and each job with its seconds beside those of that one."""
    bed.at = 1000.0
    bed.begin("aaaa")
    bed.fail("aaaa")
    bed.at = 1060.0
    bed.begin("bbbb")
    bed.publish("bbbb")

    done = bed.home.run("why", "bbbb")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"run bbbb: {TAG}: published in 3.0 s",
        "previous run aaaa: failed (exit 4) in 3.0 s",
        "",
        "nothing changed since run aaaa",
        "",
        "the run:",
        "     0.0 s  started by ann@desk",
        "     0.0 s  ended with exit code 0",
        "",
        "linux/amd64: verified: built, since run aaaa did not finish it",
        "AT     WHAT                            TOOK   BEFORE",
        "0.0 s  attempt 1 on pi5 (native)",
        "0.0 s    [2/2] RUN make: not finished  0.0 s",
        "0.0 s  verified sha256:abababababab in 2.0 s (pin archloom-1)",
    ]


def test_a_run_is_told_in_the_words_of_the_build(bed):
    """Whether its tag moved, and how long it took: the command began before its run did."""
    bed.at = 1000.0
    bed.begin("aaaa")
    bed.store.expect_tag("aaaa", TAG, "")
    bed.store.tag_moved("aaaa", TAG)
    bed.publish("aaaa")
    bed.begin("bbbb")
    bed.store.expect_tag("bbbb", TAG, DIGEST)
    bed.store.tag_moved("bbbb", TAG)
    bed.publish("bbbb")
    bed.begin("cccc")
    bed.store.expect_tag("cccc", TAG, "sha256:" + "12" * 32)
    bed.store.tag_moved("cccc", TAG)
    bed.at = 1007.0
    bed.publish("cccc")

    told = [bed.home.run("why", run).stdout for run in ("aaaa", "bbbb", "cccc")]

    assert f"  tag {TAG} → sha256:abababababab\n" in told[0]
    assert f"  tag {TAG} is sha256:abababababab already\n" in told[1]
    assert f"  tag {TAG} → sha256:abababababab (was sha256:121212121212)\n" in told[2]
    assert told[2].splitlines()[:2] == [
        f"run cccc: {TAG}: published in 7.0 s",
        "previous run bbbb: published in 3.0 s",
    ]


def test_without_a_record_the_store_tells(bed):
    """The phases are coarser then."""
    bed.at = 1000.0
    bed.begin("aaaa")
    bed.publish("aaaa")
    shutil.rmtree(bed.home.state / "runs")

    told = json.loads(bed.home.run("why", "aaaa", "--json").stdout)

    entries = told["platforms"]["linux/amd64"]["entries"]
    assert [entry["name"] for entry in entries] == ["attempt", "send", "build", "push", "verify", "end"]
    assert entries[-1]["text"].startswith("verified sha256:abababababab")
    assert told["before"] is None


def test_the_store_says_no_word_twice_either(bed):
    """How an attempt ended is its reason where there is no other."""
    bed.begin("aaaa")
    bed.store.move_attempt(bed.assign("aaaa"), AttemptEvent.CANCEL, message="cancelled")
    shutil.rmtree(bed.home.state / "runs")

    told = json.loads(bed.home.run("why", "aaaa", "--json").stdout)

    assert [entry["text"] for entry in told["platforms"]["linux/amd64"]["entries"]][1:] == ["cancelled"]


def test_a_run_under_way_is_told_as_far_as_it_has_come(bed):
    """Nobody has to wait for its end."""
    bed.begin("aaaa", platforms=(AMD64, ARM64))
    bed.assign("aaaa")

    done = bed.home.run("why", "aaaa")

    assert done.returncode == 0
    assert "aaaa: nas.lan:5000/app:1: running\n" in done.stdout
    assert "linux/arm64: pending: not on any host yet" in done.stdout


def test_a_narrow_terminal_has_room_for_a_table(bed):
    """As wide as it says it is; what goes to a pipe stays in one line."""
    bed.begin("aaaa")
    bed.tell("aaaa", Waiting(AMD64, "pi5 " * 20))
    bed.assign("aaaa")
    words = [COMMAND, "why", "aaaa"]

    with terminal(words, environment={**bed.home.environment, "COLUMNS": "50"}, folder=bed.home.folder) as narrow:
        assert narrow.end() == 0

    table = narrow.shown[narrow.shown.index("AT ") :].splitlines()
    assert max(map(len, table)) <= 50
    assert sum(line.count("pi5") for line in table) == 21
    assert f"waits: {'pi5 ' * 19}" in bed.home.run("why", "aaaa").stdout


def test_an_interrupted_run_is_told_with_the_command_that_goes_on_with_it(bed):
    """On stderr, as `archloom runs` does; a program reads the state."""
    bed.begin("aaaa", driver=dead_driver())

    told, read = bed.home.run("why", "aaaa"), bed.home.run("why", "aaaa", "--json")

    assert told.stdout.startswith(f"run aaaa: {TAG}: interrupted\n")
    assert told.stderr == "hint: go on with it: archloom resume aaaa\n"
    assert (json.loads(read.stdout)["state"], read.stderr) == ("interrupted", "")


def test_a_terminal_of_another_encoding_is_no_bug(bed):
    """What it cannot show is spelled out."""
    bed.begin("aaaa")
    bed.tell("aaaa", Notice("tag moved → sha256:1"))

    done = bed.home.run("why", "aaaa", environment={"PYTHONIOENCODING": "ascii"})

    assert done.returncode == 0, done.stderr
    assert r"tag moved \u2192 sha256:1" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["zz"], "error: there is no run 'zz'\nhint: list them with: archloom runs\n"),
        (["aaaa", "linux/arm64"], "error: run aaaa has no linux/arm64\nhint: it has linux/amd64\n"),
    ],
)
def test_what_is_not_there(bed, words, says):
    """Exit 2, with what there is."""
    bed.begin("aaaa")

    done = bed.home.run("why", *words)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", says)


async def inputs_of(folder: Path) -> Inputs:
    manifest = await scan(folder, compile_ignore("", ""))
    taken = TakenContext(use=ContextUse(), manifest=manifest, digest="x", offer=LazyOffer(manifest))
    return Inputs(
        dockerfile=parse("FROM scratch\n", "/app/Dockerfile"),
        dockerfile_path="Dockerfile",
        frontend="",
        contexts={AMD64: taken},
        uses={AMD64: ()},
        bases={},
        unstable=("--no-cache was given",),
        nonce="n",
        build_ids={AMD64: "1"},
    )


async def test_what_a_run_was_built_from_is_kept(tmp_path):
    """Every path with its mode and content, whatever its name; the same inputs make the same file."""
    folder = tmp_path / "context"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("1")
    (folder / "link").symlink_to("sub/a")
    Path(os.fsdecode(bytes(folder) + b"/\xff")).write_text("2")
    inputs = await inputs_of(folder)

    await keep_inputs(tmp_path / "state", "7f3a", inputs, PLAN.rows, lambda _: None)

    found = built_from(tmp_path / "state", RUN)
    assert (found.request, found.inputs) == (RUN.request, RUN.inputs)
    assert found.kept is not None
    assert [(one.path, one.kind, one.mode, one.link) for one in found.kept.contexts[AMD64]] == [
        (one.path, one.kind, one.mode, one.link) for one in inputs.contexts[AMD64].manifest.entries
    ]
    assert len({one.digest for one in found.kept.contexts[AMD64] if one.digest}) == 2
    assert found.kept.plan == PLAN.rows
    assert (found.kept.dockerfile, found.kept.unstable) == ("FROM scratch\n", ("--no-cache was given",))
    (path,) = (tmp_path / "state" / "runs" / "7f3a").iterdir()
    first = path.read_bytes()
    await keep_inputs(tmp_path / "state", "7f3a", inputs, PLAN.rows, lambda _: None)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-20], lambda _: b"", lambda data: b"x" + data, lambda data: data[:30] + b"zz" + data[32:]],
)
async def test_what_is_damaged_is_as_good_as_gone(tmp_path, damage):
    """Nobody is bothered with it."""
    await keep_inputs(tmp_path, "7f3a", await inputs_of(tmp_path), PLAN.rows, lambda _: None)
    (path,) = (tmp_path / "runs" / "7f3a").iterdir()
    path.write_bytes(damage(path.read_bytes()))

    kept = built_from(tmp_path, RUN).kept

    assert kept is None or isinstance(kept, KeptInputs)
    assert isinstance(built_from(tmp_path, RUN), BuiltFrom)


async def test_a_disk_that_takes_nothing_costs_only_that(tmp_path):
    """It is said, and the build goes on."""
    (tmp_path / "runs" / "7f3a").mkdir(parents=True)
    (tmp_path / "runs" / "7f3a" / "inputs.json.gz").symlink_to("/dev/full")
    told: list[Event] = []

    await keep_inputs(tmp_path, "7f3a", await inputs_of(tmp_path), PLAN.rows, told.append)

    path = tmp_path / "runs" / "7f3a" / "inputs.json.gz"
    assert told == [Notice(f"the inputs of this run cannot be stored: {path}: No space left on device")]
