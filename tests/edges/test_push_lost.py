"""What becomes of a push that is lost: the same way again, then the other way, then another host."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coordinator.domain.platforms import Mode, parse
from coordinator.domain.retry import Verdict, verdict
from coordinator.domain.run import Attempt, Job
from coordinator.domain.states import AttemptEvent, AttemptState, JobState
from coordinator.errors import LostError, RegistryError
from coordinator.registry.doors import Door
from coordinator.runner.actions.push import _lost
from coordinator.runner.actions.refused import reason

ATTEMPT = Attempt(id=1, job_id=1, number=1, host="pi5", mode=Mode.NATIVE, state=AttemptState.PUSHING)
JOB = Job(id=1, platform=parse("linux/arm64"), state=JobState.ACTIVE, build_id="x", attempts=(ATTEMPT,))


class Loom:
    """What `_lost` uses of one, after so many losses; and what was committed and told."""

    def __init__(self, losses: int, *, walled: bool = False, reaches: bool = True) -> None:
        self.run_id = "7f3a"
        self.push_losses = {ATTEMPT.id: losses}
        self.walled = {"pi5"} if walled else set()
        self.farm = SimpleNamespace(facts_of=lambda _: SimpleNamespace(reaches_tunnel=reaches), client=self._away)
        self.store = SimpleNamespace(move_attempt=self._move, run=lambda _: SimpleNamespace(stopped_by=None))
        self.moves: list[tuple[AttemptEvent, str]] = []
        self.told: list[object] = []
        self.emit = self.told.append

    def _move(self, _: int, event: AttemptEvent, *, code: str = "", message: str = "") -> AttemptState:
        assert message
        self.moves.append((event, code))
        return AttemptState.LOST

    async def _away(self, host: str) -> None:
        raise LostError(f"host '{host}' is not there", code="unreachable")


async def end(loom: Loom, code: str) -> list[tuple[AttemptEvent, str]]:
    await _lost(loom, JOB, ATTEMPT, LostError("host 'pi5': it broke off", code=code))
    return loom.moves


@pytest.mark.parametrize("code", ["tunnel", "engine"])
async def test_the_third_loss_turns_to_an_archive(code):
    """The image is held: it goes back to BUILT, by the other way from then on, and that is told once."""
    loom = Loom(2)

    assert await end(loom, code) == [(AttemptEvent.PUSH_LOST, code)]
    assert loom.walled == {"pi5"}
    assert len([told for told in loom.told if "carried as archives" in str(told)]) == 1


@pytest.mark.parametrize("loom", [Loom(3, walled=True), Loom(2, reaches=False)], ids=["after it", "nothing else"])
async def test_an_archive_that_is_lost_too_is_the_hosts_end(loom):
    """Another host may have it; without one the job is lost."""
    assert await end(loom, "cut") == [(AttemptEvent.LOSE, "push")]
    assert verdict(["push"]) is Verdict.ELSEWHERE


@pytest.mark.parametrize(
    ("code", "ends_with"), [("registry", "registry"), ("connection", "push"), ("not_built", "not_built")]
)
async def test_where_an_archive_would_fare_no_better_it_is_not_tried(code, ends_with):
    """It takes the same way to the host, ends in the same registry, and is of the same image."""
    loom = Loom(2)

    assert await end(loom, code) == [(AttemptEvent.LOSE, ends_with)]
    assert not loom.walled


def test_what_the_broker_knows_nothing_of_is_no_refusal():
    """An engine says of a broken connection what it likes; a registry's refusal and the broker's own are told by it."""
    door = Door(job="7f3a", push=None, bases={})
    broke = RegistryError(
        "host 'pi5': Put \"https://127.0.0.1:1/v2/\": use of closed network connection", code="refused"
    )
    own = RegistryError("host 'pi5': denied: archloom: the manifest is too large", code="refused")

    found = reason(door, broke)
    assert isinstance(found, LostError)
    assert (found.code, found.message) == ("tunnel", broke.message)
    assert reason(door, own) is own
    door.refused(RegistryError("denied", code="denied"))
    assert reason(door, broke) is door.refusal
