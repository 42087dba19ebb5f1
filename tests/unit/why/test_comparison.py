"""The comparison of a run with the run before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.domain.image.platforms import Mode, Platform, parse
from coordinator.domain.placement.plan import Row
from coordinator.domain.run.events import (
    Assigned,
    AttemptEnded,
    Notice,
    Phase,
    PhaseEnded,
    Place,
    RunEnded,
    RunStarted,
    Skipped,
    Verified,
    Waiting,
)
from coordinator.domain.run.history import RunChange
from coordinator.domain.run.history import RunEnded as EndOfRun
from coordinator.domain.run.model import Attempt, Job, Run, StoredEvent
from coordinator.domain.run.states import AttemptState, JobState, TargetState
from coordinator.domain.run.status import Status
from coordinator.domain.why.built_from import BuiltFrom, KeptInputs
from coordinator.domain.why.comparison import Sources, compare
from coordinator.report.rawjson import from_json_line
from coordinator.report.why import comparison_text
from tests.services.paths import CASES

GOLDEN = CASES / "story"
ARM64 = parse("linux/arm64")
ATTEMPT = Attempt(id=1, job_id=1, number=1, host="pi5", mode=Mode.NATIVE, state=AttemptState.PUSHED)
JOB = Job(id=1, platform=ARM64, state=JobState.VERIFIED, build_id="1", attempts=(ATTEMPT,))
ORIGIN = BuiltFrom(request={}, inputs={})
KEPT = KeptInputs(contexts={}, dockerfile="", dockerfile_path="Dockerfile")


def run(name: str, *jobs: Job) -> Run:
    return Run(
        id=name,
        request={"tags": ["nas.lan:5000/app:1"]},
        target_state=TargetState.PUBLISHED,
        index_digest="sha256:1",
        jobs=jobs,
        created_at=1000.0,
        finished_at=1021.4,
        exit_code=0,
    )


def known(name: str, *jobs: Job, case: str = "", built_from: BuiltFrom = ORIGIN) -> Sources:
    lines = (GOLDEN / case / "events.jsonl").read_bytes().splitlines() if case else []
    recorded = [found for line in lines if (found := from_json_line(line))]
    return Sources(run=run(name, *jobs), status=Status.PUBLISHED, recorded=recorded, built_from=built_from)


def told(now: Sources, before: Sources | None):
    return compare(now, before, [ARM64], Platform("host", "any"))


@pytest.mark.parametrize(("golden", "width"), [("account.txt", None), ("account-narrow.txt", 60)])
def test_a_run_stands_beside_the_one_before(golden, width):
    """Each phase and step with its seconds then and now; what only one of them had stands alone. A table is never
    wider than its terminal."""
    plan = (
        Row("linux/arm64", "pi5", "native", "builds", "its own platform"),
        Row("linux/arm64", "pi4", "", "no", "512 MiB of memory"),
        Row("linux/arm64", "pi3", "", "no", "512 MiB of memory"),
        Row("linux/amd64", "beast", "native", "builds", "its own platform"),
    )
    now = known("7f3a", JOB, case="built", built_from=replace(ORIGIN, kept=replace(KEPT, plan=plan)))
    before = known("5c1d", replace(JOB, build_id="2"), case="failed")

    text = comparison_text(told(now, before), width)

    assert text == (GOLDEN.parent / golden).read_text("utf-8").rstrip("\n")
    table = text[text.index("AT ") :]
    assert width is None or max(map(len, table.splitlines())) <= width


def test_a_run_that_waited_for_a_registry_says_so():
    """A platform its own waits, and the run those of the tags."""
    account = told(known("7f3a", JOB, case="registry-away"), None)

    wait, error = (entry for entry in account.entries if entry.name == "registry")
    assert (wait.at, wait.seconds, wait.text) == (
        1023.0,
        1.0,
        "waits for registry nas.lan:5000: served after 1 s, at try 2",
    )
    assert error.text == "registry nas.lan:5000: cannot push the manifest: not found (404)"
    text = comparison_text(account)
    assert "waits for registry nas.lan:5000: served after 19 s, at try 5" in text
    assert "registry nas.lan:5000: cannot push a layer: forbidden (403)" in text


def test_a_long_message_leaves_the_columns_where_they_are():
    """It stands whole, in a pipe on one line; in a terminal it is broken under its column."""
    message = "failed to solve: " + "/very/long/path " * 20
    case = known("7f3a", JOB, case="failed")
    recorded = [
        (at, replace(event, message=message) if isinstance(event, AttemptEnded) else event)
        for at, event in case.recorded
    ]
    now = replace(case, recorded=recorded)

    piped, narrow = (comparison_text(told(now, None), width).splitlines() for width in (None, 60))

    (head,) = (line for line in piped if line.startswith("AT "))
    assert head.index("TOOK") < 60
    assert any(line.endswith(f"failed (build) at [3/3] RUN make: {message.rstrip()}") for line in piped)
    table = narrow[next(n for n, line in enumerate(narrow) if line.startswith("AT ")) :]
    assert max(map(len, table)) <= 60
    assert "".join(table).count("/very/long/path") == 20
    assert all(line[:7].isspace() for line in table if "/very" in line and "failed" not in line)


def test_nothing_of_an_account_can_drive_the_terminal():
    """What a host is called, what a build printed, what a registry said: control characters are spelled out."""
    rude = "\x1b[2J\x07\n"
    plan = (Row("linux/arm64", rude, "", "no", rude),)
    kept = replace(KEPT, dockerfile=rude, dockerfile_path=rude, plan=plan, unstable=(rude,))
    built_from = BuiltFrom(
        request={"build_args": {rude: rude}, "stage": rude}, inputs={"bases": {rude: rude}}, kept=kept
    )
    before = BuiltFrom(
        request={}, inputs={"bases": {rude: "1"}, "dockerfile": "1", "contexts": {"linux/amd64": "1"}}, kept=KEPT
    )
    recorded = [(1000.0, Notice(rude)), (1000.0, Waiting(ARM64, rude)), (1000.0, Skipped(ARM64, rude))]
    now = Sources(run=run("7f3a", JOB), status=Status.PUBLISHED, recorded=recorded, built_from=built_from)

    text = comparison_text(told(now, known("5c1d", JOB, built_from=before)))

    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert text.count(r"\x1b[2J\x07\n") >= 8


@pytest.mark.parametrize(
    ("job", "kept", "before", "why"),
    [
        (replace(JOB, reused=True), None, JOB, "reused, since nothing it depends on has changed since it was built"),
        (JOB, None, None, "built; no earlier run of this target is stored on this machine"),
        (JOB, None, replace(JOB, build_id="2"), "built, since what it depends on has changed since run 5c1d"),
        (JOB, None, replace(JOB, state=JobState.LOST), "built, since run 5c1d did not finish it"),
        (JOB, None, replace(JOB, platform=parse("linux/amd64")), "built; run 5c1d did not have it"),
        (
            JOB,
            None,
            JOB,
            "built again, since the registry did not have the image of run 5c1d, or not a matching one",
        ),
        (JOB, replace(KEPT, unstable=("a", "b")), JOB, "built, since nothing is reused: a; b"),
        (
            replace(JOB, state=JobState.FAILED),
            None,
            replace(JOB, build_id="2"),
            "tried, since what it depends on has changed since run 5c1d",
        ),
        (replace(JOB, state=JobState.LOST), replace(KEPT, unstable=("a",)), JOB, "tried, since nothing is reused: a"),
        (
            replace(JOB, state=JobState.CANCELLED),
            None,
            None,
            "tried; no earlier run of this target is stored on this machine",
        ),
        (
            replace(JOB, state=JobState.ACTIVE),
            None,
            None,
            "being built; no earlier run of this target is stored on this machine",
        ),
        (
            replace(JOB, state=JobState.PENDING),
            None,
            replace(JOB, state=JobState.LOST),
            "being built, since run 5c1d did not finish it",
        ),
        (replace(JOB, attempts=(), state=JobState.LOST), None, JOB, "never on a host"),
        (replace(JOB, attempts=(), state=JobState.PENDING), None, JOB, "not on any host yet"),
    ],
)
def test_why_a_job_was_built(job, kept, before, why):
    """Or was not, or is not yet: what did not come to be is never told as built."""
    found = told(known("7f3a", job, built_from=replace(ORIGIN, kept=kept)), known("5c1d", before) if before else None)

    assert [one.why for one in found.jobs] == [why]


def test_only_what_is_asked_for_is_told():
    """One platform of many."""
    other = replace(JOB, id=2, platform=parse("linux/amd64"))

    assert [one.job.platform for one in told(known("7f3a", JOB, other), None).jobs] == [ARM64]


def test_a_run_that_goes_on_has_no_duration():
    """One that is over has the longest of those that are known."""
    now = known("7f3a", JOB)
    ended = RunEnded(run="7f3a", exit_code=0, digest="", tags=(), seconds=42.0)
    goes_on = replace(now, run=replace(now.run, finished_at=None))

    assert told(goes_on, None).seconds is None
    assert told(now, None).seconds == pytest.approx(21.4)
    assert told(replace(now, recorded=[(1000.0, ended)]), None).seconds == 42.0


@pytest.mark.parametrize(
    ("back", "taken_up", "notice", "ended", "build"),
    [(0.0, 1030.0, 1031.0, 1060.0, 40.0), (10_800.0, 1000.0, 1003.0, 1030.0, 12.0)],
)
def test_a_clock_that_was_set_back_does_not_show(back, taken_up, notice, ended, build):
    """Between two coordinators of a run, whose pause is then unknown: the order and the durations are true."""
    place = Place(platform=ARM64, host="pi5", mode=Mode.NATIVE)
    recorded = [
        (1000.0, RunStarted(run="7f3a", tags=(), platforms=(ARM64,), log_folder="")),
        (1001.0, Assigned(place, "")),
        (1002.0, Phase(place, "build", "")),
        (1030.0 - back, RunStarted(run="7f3a", tags=(), platforms=(ARM64,), log_folder="", resumed=True)),
        (1031.0 - back, Notice("the registry answers again")),
        (1042.0 - back, PhaseEnded(place, "build", 1.0)),
        (1050.0 - back, Verified(place=place, digest="sha256:1", pin="", seconds=1.0)),
    ]
    committed = [
        StoredEvent(at=1000.0, what=RunChange.CREATED, data={"holder": "ada@here"}),
        StoredEvent(at=1030.0 - back, what=RunChange.TAKEN_UP, data={"holder": "ada@here"}),
        StoredEvent(at=1060.0 - back, what=EndOfRun(0), data={}),
    ]
    stored = replace(run("7f3a", JOB), finished_at=1060.0 - back)
    now = Sources(run=stored, status=Status.PUBLISHED, committed=committed, recorded=recorded, built_from=ORIGIN)

    comparison = told(now, None)

    assert comparison.seconds == ended - 1000.0
    assert [(entry.at, entry.text) for entry in comparison.entries] == [
        (1000.0, "started by ada@here"),
        (taken_up, "gone on with by ada@here"),
        (notice, "the registry answers again"),
        (ended, "ended with exit code 0"),
    ]
    entries = [entry for entry, _ in comparison.jobs[0].entries]
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    assert {entry.name: entry.seconds for entry in entries}["build"] == build
