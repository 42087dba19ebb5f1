"""The push step: what the store has afterwards, which way the image goes, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import pytest

from coordinator.broker.grant import PushedManifest
from coordinator.domain.image.descriptors import OCI_MANIFEST
from coordinator.domain.run.events import PUSH_LOST, AttemptEnded, Kept, Phase, PhaseEnded, RegistryBack, RegistryWait
from coordinator.domain.run.states import AttemptEvent, AttemptState, JobState
from coordinator.errors import LostError, RegistryError
from coordinator.run.steps.push import push
from tests.edges.run.step_bed import BUILT, StepBed

NAME = "7f3a-amd64-1"
DIGEST = "sha256:" + "1" * 64


def pushes(bed: StepBed, *progress: tuple[int, int]) -> Callable[..., None]:
    """An engine that pushes through the broker, and reports bytes done and in total."""

    def go(secret: str, tell: Callable[[int, int], None]) -> None:
        grant = bed.run.broker._grants[NAME]
        assert grant.authenticates(secret)
        assert (grant.push.name, dict(grant.bases), list(grant.mount_from)) == ("nas.lan:5000/team/app", {}, [])
        grant.pushed = PushedManifest(DIGEST, OCI_MANIFEST, 7)
        for done, total in progress:
            tell(done, total)

    return go


def fails(error: Exception) -> Callable[..., None]:
    def go(*_: object) -> None:
        raise error

    return go


@pytest.mark.parametrize("before", [BUILT, (*BUILT, AttemptEvent.PUSH)])
async def test_what_the_broker_saw_is_what_was_pushed(steps, before):
    """Also where an earlier coordinator began it. The job's grant is over with its push."""
    steps.client.does["push"] = pushes(steps)

    await push(steps.attempt(*before))

    assert (steps.ended().state, steps.ended().digest) == (AttemptState.PUSHED, DIGEST)
    assert [(type(event), event.name) for event in steps.events] == [(Phase, "push"), (PhaseEnded, "push")]
    assert steps.run.broker._grants == {}


async def test_progress_is_told_in_steps_of_ten_percent(steps):
    """Each once, and none where the total is not known."""
    reported = [(0, 0), (0, 1000), (99, 1000), (100, 1000), (150, 1000), (950, 1000), (1000, 1000)]
    steps.client.does["push"] = pushes(steps, *reported)

    await push(steps.attempt(*BUILT))

    assert steps.phases() == ["", "0 %", "10 %", "90 %", "100 %"]


async def test_the_percentage_never_falls_and_is_whole_at_the_end(steps):
    """A total that grows with each layer, and a second try of a lost push, which begins at nothing."""
    steps.client.does["push"] = pushes(steps, (400, 1000), (1000, 1000), (1000, 5000), (4900, 5000))
    ctx = steps.attempt(*BUILT)
    ctx.run.push_percents[ctx.attempt.id] = 30

    await push(ctx)

    assert steps.phases() == ["", "40 %", "90 %", "100 %"]


async def test_a_push_that_crawls_is_told_of_every_three_seconds(steps):
    def go(secret: str, tell: Callable[[int, int], None]) -> None:
        for done in (10_000_000, 12_000_000, 14_000_000):
            tell(done, 1_000_000_000)
            steps.clock[0] += 2.0
        pushes(steps)(secret, tell)

    steps.client.does["push"] = go

    await push(steps.attempt(*BUILT))

    assert steps.phases() == ["", "0 %", "0 %, 14.0 MB of 1000.0 MB so far", "100 %"]


async def test_a_lost_push_returns_the_image_to_its_host(steps):
    """After a pause, and counted; nothing is deleted there."""
    steps.client.does["push"] = fails(LostError("it broke off", code="tunnel"))
    ctx, began = steps.attempt(*BUILT), monotonic()

    await push(ctx)

    assert steps.ended().state is AttemptState.BUILT
    assert monotonic() - began >= 0.9
    assert steps.run.push_losses == {ctx.attempt.id: 1}
    assert steps.phases()[-1].startswith(PUSH_LOST)
    assert steps.client.asked == [("push", NAME)]


@pytest.mark.parametrize(
    ("code", "losses", "cause"),
    [
        ("tunnel", 3, "push"),
        ("not_built", 0, "not_built"),
        ("melted", 3, "push"),
    ],
)
async def test_the_last_lost_push_ends_the_attempt(steps, code, losses, cause):
    """After so many losses before, by its own cause where another host would fare no better."""
    for word in ("push", "image"):
        steps.client.does[word] = fails(LostError("it broke off", code=code))
    ctx = steps.attempt(*BUILT)
    steps.run.push_losses[ctx.attempt.id] = losses

    await push(ctx)

    assert (steps.ended().state, steps.ended().code) == (AttemptState.LOST, cause)
    assert isinstance(steps.events[-1], AttemptEnded)
    assert steps.client.asked[-1] == ("forget", NAME)


@pytest.mark.parametrize(("losses", "way"), [(0, "push"), (1, "push"), (2, "push"), (3, "image")])
async def test_the_fourth_try_is_an_archive(steps, losses, way):
    """The phase says which try it is."""
    for word in ("push", "image"):
        steps.client.does[word] = fails(LostError("the image is gone", code="not_built"))
    ctx = steps.attempt(*BUILT)
    steps.run.push_losses[ctx.attempt.id] = losses

    await push(ctx)

    assert steps.client.asked[0] == (way, NAME)
    assert (str(losses + 1) in steps.phases()[0]) is (losses > 0)


async def test_a_host_that_goes_away_in_a_push_is_replaced_like_any_other(steps):
    """Its attempt ends by that cause, which is no lost push; nothing is asked of it any more."""
    steps.client.does["push"] = fails(LostError("it is off", code="connection"))

    await push(steps.attempt(*BUILT))

    assert (steps.ended().state, steps.ended().code) == (AttemptState.LOST, "connection")
    assert ("forget", NAME) not in steps.client.asked
    assert steps.run.push_losses == {}


async def test_a_registry_that_fails_for_good_leaves_the_image_on_its_host(steps):
    steps.client.does["push"] = fails(LostError("it answers 503", code="registry"))
    ctx = steps.attempt(*BUILT)
    steps.run.push_losses[ctx.attempt.id] = 2

    await push(ctx)

    assert (steps.job().state, steps.job().kept) == (JobState.LOST, steps.ended())
    assert isinstance(steps.events[-1], Kept)
    assert ("forget", NAME) not in steps.client.asked


async def test_a_host_without_a_tunnel_is_given_up_after_three(steps):
    """It has had its archives already."""
    steps.run.no_tunnel_hosts.add("pi5")
    steps.client.does["image"] = fails(LostError("it broke off", code="cut"))
    ctx = steps.attempt(*BUILT)
    steps.run.push_losses[ctx.attempt.id] = 2

    await push(ctx)

    assert (steps.ended().state, steps.ended().code) == (AttemptState.LOST, "push")


@pytest.mark.parametrize(("moved", "seconds"), [(2.5, 2.5), (-60.0, 0.0)])
async def test_a_phase_lasts_from_its_begin_to_its_end(steps, moved, seconds):
    """By the coordinator's clock; one that was set back makes no phase shorter than nothing."""

    def push_slowly(*asked: object) -> None:
        steps.clock[0] += moved
        pushes(steps)(*asked)

    steps.client.does["push"] = push_slowly

    await push(steps.attempt(*BUILT))

    assert steps.events[-1].seconds == seconds


@pytest.mark.parametrize("code", ["invalid", "too_large", "immutable", "mismatch"])
async def test_a_refusal_of_the_content_is_not_waited_for(steps, code):
    """No host would push better, and no other time; the image is kept until its user has changed something."""
    steps.client.does["push"] = fails(RegistryError("no", code=code))

    await push(steps.attempt(*BUILT))

    assert (steps.job().state, steps.job().kept) == (JobState.LOST, steps.ended())
    assert (steps.ended().code, steps.ended().message) == ("registry", "no")
    assert steps.pauses == []


@pytest.mark.parametrize("code", ["denied", "unauthorized", "not_found", "unavailable", "unreachable", "unsupported"])
async def test_a_registry_that_fails_returns_the_image_to_its_host(steps, code):
    """It is not a lost push; the host keeps the image, which is said, and the credentials are read again."""
    steps.client.does["push"] = fails(RegistryError("not now", code=code))
    ctx = steps.attempt(*BUILT)

    await push(ctx)

    assert (steps.ended().state, steps.ended().code) == (AttemptState.BUILT, "registry")
    assert (steps.run.push_losses, steps.pauses) == ({}, [1.0])
    assert steps.registry.forgotten == ["nas.lan:5000"]
    [wait] = [event for event in steps.events if isinstance(event, RegistryWait)]
    assert (wait.registry, wait.text, wait.tries, wait.left) == ("nas.lan:5000", "not now", 1, 300.0)
    assert (wait.platforms, wait.kept) == ((ctx.job.platform,), {"linux/amd64": "pi5"})


async def test_a_push_that_succeeds_after_all_says_after_how_long(steps):
    steps.client.does["push"] = fails(RegistryError("not now", code="unavailable"))
    ctx = steps.attempt(*BUILT)
    for _ in range(3):
        await push(steps.run.attempt(ctx.attempt.id))
    steps.client.does["push"] = pushes(steps)

    await push(steps.run.attempt(ctx.attempt.id))

    assert steps.ended().state is AttemptState.PUSHED
    assert steps.pauses == [1.0, 2.0, 4.0]
    [back] = [event for event in steps.events if isinstance(event, RegistryBack)]
    assert (back.registry, back.seconds, back.tries, back.platforms) == ("nas.lan:5000", 7.0, 4, (ctx.job.platform,))
    assert steps.phases()[-1] == "again"


async def test_a_registry_is_given_up_when_the_patience_is_over(steps):
    """To the second; the message says how long and how often, and that it is no fault of the build."""
    steps.client.does["push"] = fails(RegistryError("no space left", code="unavailable"))
    ctx = steps.attempt(*BUILT)
    while steps.job().state is JobState.ACTIVE:
        await push(steps.run.attempt(ctx.attempt.id))

    assert sum(steps.pauses) == 300.0
    assert (steps.ended().code, steps.job().kept) == ("registry", steps.ended())
    assert ("forget", NAME) not in steps.client.asked
    assert steps.ended().message == "no space left; gave registry nas.lan:5000 up after 5 min, 34 tries"


async def test_an_engine_that_took_a_refusal_for_a_success_is_not_believed(steps):
    """It says that it pushed; what the registry said of the manifest is the reason, not that the broker saw none."""

    def go(*_: object) -> None:
        steps.run.broker._grants[NAME].refused(RegistryError("manifest invalid (400 MANIFEST_INVALID)", code="invalid"))

    steps.client.does["push"] = go

    await push(steps.attempt(*BUILT))

    assert steps.ended().message == "manifest invalid (400 MANIFEST_INVALID)"
    assert steps.ended().code == "registry"


async def test_an_engine_that_pushed_elsewhere_has_lost_the_push(steps):
    """It says that it pushed, and the broker saw no manifest: what it says is not believed."""
    steps.client.does["push"] = lambda *_: None

    await push(steps.attempt(*BUILT))

    assert steps.ended().state is AttemptState.BUILT
    assert steps.phases()[-1].startswith(PUSH_LOST)
