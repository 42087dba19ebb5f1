"""What is repeated until a registry serves, and what the user is told meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from coordinator.domain.run.events import RegistryBack, RegistryWait
from coordinator.domain.run.registry_trouble import RegistryUse
from coordinator.errors import ArchloomError, RegistryError, UsageError
from coordinator.run.registry_patience import begin_wait, persist
from tests.edges.run.step_bed import StepBed
from tests.edges.store.store_bed import AMD64, ARM64

TAGS = RegistryUse(name="publish", registry="nas.lan:5000")


def failing(*errors: ArchloomError) -> Callable[[], Awaitable[str]]:
    left = list(errors)

    async def act() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return act


def waits(bed: StepBed) -> list[RegistryWait]:
    return [event for event in bed.events if isinstance(event, RegistryWait)]


async def test_it_is_repeated_until_it_succeeds(steps):
    """Whatever the registry, its proxy or its credential helper answers; the credentials are read again each time."""
    errors = [
        RegistryError("forbidden (403)", code="denied", registry="other:5000"),
        RegistryError("not found (404)", code="not_found", registry="other:5000"),
        UsageError("the credential helper did not answer", code="helper"),
        UsageError("the certificate has expired", code="certificate"),
    ]

    assert await persist(steps.run, TAGS, failing(*errors)) == "done"

    assert steps.pauses == [1.0, 2.0, 4.0, 8.0]
    assert steps.registry.forgotten == ["other:5000", "other:5000", "nas.lan:5000", "nas.lan:5000"]
    assert steps.events[-1] == RegistryBack(registry="other:5000", seconds=15.0, tries=5)


async def test_a_success_at_once_says_nothing(steps):
    assert await persist(steps.run, TAGS, failing()) == "done"

    assert (steps.events, steps.pauses) == ([], [])


@pytest.mark.parametrize(
    "refusal",
    [
        RegistryError("the manifest is invalid", code="invalid"),
        UsageError("cannot write archloom.db", code="readonly"),
        UsageError("archloom.db is not a readable store", code="corrupt"),
    ],
)
async def test_what_no_registry_can_cure_is_raised_at_once(steps, refusal):
    """A refusal of the content; a store that cannot be written."""
    with pytest.raises(ArchloomError) as raised:
        await persist(steps.run, TAGS, failing(refusal))

    assert raised.value is refusal
    assert (steps.events, steps.pauses) == ([], [])


async def test_without_patience_the_first_failure_ends_it(steps):
    """As the inventory says. The error is one of the registry, also where a credential helper failed."""
    steps.run.session.inventory.registry_patience = 0.0

    with pytest.raises(RegistryError, match=r"no helper; gave registry .* up after 0 s, 1 try$"):
        await persist(steps.run, TAGS, failing(UsageError("no helper", code="helper")))


async def test_a_pause_that_the_registry_asks_for_is_kept(steps):
    """Up to a minute, with a line at least every 25 s; never beyond the end of the patience. A day is not waited."""
    busy = [RegistryError("429", code="unavailable", retry_after=seconds) for seconds in (60.0, 86400.0, 59.0)]
    steps.run.session.inventory.registry_patience = 80.0

    await persist(steps.run, TAGS, failing(*busy))

    assert steps.pauses == [25.0, 25.0, 10.0, 2.0, 18.0]
    assert [event.seconds for event in waits(steps)] == [0.0, 25.0, 50.0]


async def test_a_line_comes_now_and_then(steps):
    """With each try in the first minute, then every thirty seconds; and it says when the run gives up."""
    errors = [RegistryError(f"503 ({number})", code="unavailable") for number in range(20)]

    await persist(steps.run, TAGS, failing(*errors))

    told = [(event.seconds, event.tries, event.left) for event in waits(steps)]
    assert told[:5] == [(0.0, 1, 300.0), (1.0, 2, 299.0), (3.0, 3, 297.0), (7.0, 4, 293.0), (15.0, 5, 285.0)]
    assert [seconds for seconds, *_ in told[5:]] == [25.0, 35.0, 45.0, 55.0, 85.0, 115.0, 145.0]


async def test_a_silence_counts_from_its_beginning(steps):
    """The try that heard nothing for half a minute is half a minute of the patience."""
    await persist(steps.run, TAGS, failing(RegistryError("no data for 30 s", code="unreachable", waited=30.0)))

    assert [(event.seconds, event.left) for event in waits(steps)] == [(30.0, 270.0)]


def test_platforms_that_wait_together_are_told_of_together(steps):
    """A second one that begins to wait is told of at once, with the first."""
    error = RegistryError("503", code="unavailable")
    for platform, host in ((AMD64, "beast"), (ARM64, "pi5")):
        name = f"push {platform}"
        use = RegistryUse(name=name, registry="nas", platforms=(platform,), kept={str(platform): host})
        begin_wait(steps.run, use, error)

    assert [event.platforms for event in waits(steps)] == [(AMD64,), (AMD64, ARM64)]
    assert waits(steps)[1].kept == {"linux/amd64": "beast", "linux/arm64": "pi5"}
