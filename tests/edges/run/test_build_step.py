"""The build step: it waits for a slot, follows the log to its end, and stores what became of the job."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from coordinator.domain.run.events import AttemptEnded, Phase, StepLine, Waiting
from coordinator.domain.run.run_error import run_error
from coordinator.domain.run.states import AttemptState, JobEvent
from coordinator.errors import LostError
from coordinator.hosts.agent.error_codes import HostBusyError
from coordinator.hosts.agent.replies import Ended, EndState, LogText
from coordinator.run.steps.build import build
from coordinator.state.logs import log_path
from tests.edges.run.step_bed import BUILDING, RUN, StepBed
from tests.edges.store.store_bed import AMD64, ARM64

NAME = "7f3a-amd64-1"
CUT = LostError("the connection was closed", code="connection")
LOG = "#1 [1/1] RUN make\n\n#1 sha256:" + "0" * 64 + "\n#1 0.1 cc\nnote\n#1 ERROR: exit code: 1"


def ended(state: EndState, **fields: object) -> Ended:
    return Ended(state=state, seconds=1.0, log_size=0, **fields)


def told(bed: StepBed) -> list[tuple[str, str]]:
    """The lines of the log that were emitted, with their steps."""
    return [(event.text, event.step) for event in bed.events if isinstance(event, StepLine)]


def kept(bed: StepBed) -> str:
    return log_path(bed.run.env.state, RUN, AMD64, 1).read_text()


@pytest.mark.parametrize(
    ("end", "state", "code"),
    [
        (ended(EndState.BUILT, platform=AMD64), AttemptState.BUILT, ""),
        (ended(EndState.BUILT, platform=ARM64), AttemptState.FAILED, "mismatch"),
        (ended(EndState.BUILT), AttemptState.FAILED, "mismatch"),
        (ended(EndState.FAILED, code="build", message="exit code: 1"), AttemptState.FAILED, "build"),
        (ended(EndState.LOST, code="disk", message="no space"), AttemptState.LOST, "disk"),
        (ended(EndState.CANCELLED), AttemptState.CANCELLED, ""),
    ],
)
async def test_the_end_of_the_job_is_the_end_of_the_build(steps, end, state, code):
    """An image of another platform is not what was asked for, whatever the engine thinks."""
    steps.client.log = lambda _: [LogText(log=LOG, offset=len(LOG)), end]

    await build(steps.attempt(*BUILDING))

    assert (steps.ended().state, steps.ended().code) == (state, code)
    if state in (AttemptState.FAILED, AttemptState.LOST):
        event = steps.events[-1]
        assert isinstance(event, AttemptEnded)
        assert (event.step, event.tail) == ("[1/1] RUN make", ("cc",))


@pytest.mark.parametrize(
    ("engine", "frontend", "message", "is_old"),
    [
        ("20.10.24+dfsg1", "", "dockerfile parse error line 3: unknown instruction: ECHO", True),
        ("20.10.24+dfsg1", "", "dockerfile parse error line 2: Unknown flag: link", True),
        ("26.1.5", "", "dockerfile parse error on line 2: unknown flag: --parents", True),
        ("26.1.5", "", "dockerfile parse error on line 2: unknown instruction: ECHO", False),
        ("20.10.24", "docker/dockerfile:1", "dockerfile parse error line 3: unknown instruction: ECHO", False),
        ("20.10.24", "", "dockerfile parse error line 2: Unknown flag: lnik", False),
        ("20.10.24", "", "exit code: 1", False),
    ],
)
async def test_a_frontend_that_is_too_old_is_the_cause(steps, engine, frontend, message, is_old):
    """That of the engine itself, which a line of the Dockerfile replaces."""
    steps.farm.facts["pi5"] = SimpleNamespace(clock_offset=0.0, engine=SimpleNamespace(version=engine))
    steps.run = replace(steps.run, inputs_or_gone=SimpleNamespace(frontend=frontend))
    log = f"#1 [internal] load\n#1 DONE 0.0s\nfailed to solve: {message}\n"
    failure = ended(EndState.FAILED, code="build", message=message)
    steps.client.log = lambda _: [LogText(log=log, offset=len(log)), failure]

    await build(steps.attempt(*BUILDING))
    steps.store.move_job(steps.job().id, JobEvent.FAIL)

    cause = f"the BuildKit of Docker {engine} does not know this: " if is_old else ""
    assert steps.ended().message == f"{cause}{message}"
    assert steps.events[-1].tail == ()
    error = run_error(steps.store.run(RUN), "app:1")
    assert error is not None
    assert ("# syntax=docker/dockerfile:1" in error.hint) is is_old
    assert "archloom logs" in error.hint


@pytest.mark.parametrize(("title", "opened"), [("exporting to image", ["pi5"]), ("[1/1] RUN echo exporting to", [])])
async def test_the_tunnel_is_opened_while_the_image_is_exported(steps, title, opened):
    """The login that it takes goes on beside the engine's last step."""
    text = f"#8 {title}\n#8 exporting layers\n#8 DONE 0.7s\n"
    steps.client.log = lambda _: [LogText(log=text, offset=len(text)), ended(EndState.BUILT, platform=AMD64)]

    await build(steps.attempt(*BUILDING))

    assert steps.farm.opened_ahead[:1] == opened


async def test_the_log_is_kept_whole_and_told_without_decoration(steps):
    """Blank lines and digests under a title are for the file alone; the last line needs no line end."""
    steps.client.log = lambda _: [
        LogText(log=LOG[:30], offset=30),
        LogText(log=LOG[30:], offset=len(LOG)),
        ended(EndState.FAILED),
    ]

    await build(steps.attempt(*BUILDING))

    title = "[1/1] RUN make"
    assert told(steps) == [
        (f"#1 {title}", title),
        ("#1 0.1 cc", ""),
        ("note", ""),
        ("#1 ERROR: exit code: 1", title),
    ]
    assert kept(steps) == LOG


async def test_a_lost_connection_goes_on_where_the_log_was(steps):
    """However often; each time it is told."""
    items = {0: [LogText(log="#1 a\n", offset=5), CUT], 5: [LogText(log="#1 0.1 b\n", offset=14), CUT], 14: []}
    steps.client.log = lambda offset: items[offset] or [ended(EndState.BUILT, platform=AMD64)]

    await build(steps.attempt(*BUILDING))

    assert steps.ended().state is AttemptState.BUILT
    assert [word for word, _ in steps.client.asked] == ["start", "follow 0", "follow 5", "follow 14"]
    phases = [(event.name, event.text) for event in steps.events if isinstance(event, Phase)]
    away = ("connection lost", "the build may go on there; trying to reach it again, 60 s left")
    back = ("connection lost", "reached again")
    assert phases == [("build", ""), away, back, away, back]
    assert kept(steps) == "#1 a\n#1 0.1 b\n"


async def test_a_log_that_is_closed_early_is_a_lost_connection(steps):
    ends = iter([[], [ended(EndState.BUILT, platform=AMD64)]])
    steps.client.log = lambda _: next(ends)

    await build(steps.attempt(*BUILDING))

    assert steps.ended().state is AttemptState.BUILT
    assert steps.client.asked.count(("follow 0", NAME)) == 2


@pytest.mark.parametrize(("code", "stored"), [("unknown_job", "unknown_job"), ("", "connection")])
async def test_any_other_loss_ends_the_attempt(steps, code, stored):
    steps.client.log = lambda _: [LostError("no", code=code)]

    await build(steps.attempt(*BUILDING))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.LOST, stored)


async def test_a_job_that_cannot_be_started_is_lost(steps):
    steps.farm.unreachable = LostError("it is off", code="unreachable")

    await build(steps.attempt(*BUILDING))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.LOST, "unreachable")
    assert steps.client.asked == []


async def test_a_held_host_is_waited_for_and_its_holder_told_once(steps):
    """For how long it has been held, by the host's clock."""
    answers = [HostBusyError("busy", holder="bob@nas 5c1d", since=990.0)] * 2 + [None]

    def start() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    steps.client.does["start"] = start
    steps.client.log = lambda _: [ended(EndState.BUILT, platform=AMD64)]

    await build(steps.attempt(*BUILDING))

    (waiting,) = (event for event in steps.events if isinstance(event, Waiting))
    assert waiting.platform == AMD64
    assert "bob@nas 5c1d" in waiting.reason
    assert "7 s" in waiting.reason
    assert steps.client.asked.count(("start", NAME)) == 3
    assert steps.ended().state is AttemptState.BUILT
