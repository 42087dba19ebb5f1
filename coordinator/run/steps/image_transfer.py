"""Images out of hosts and bases into them: through the tunnel, or as archives where the engine cannot reach it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from coordinator.domain.run.events import Notice
from coordinator.domain.run.job_names import agent_job
from coordinator.domain.run.model import Attempt, Job
from coordinator.errors import ArchloomError, LostError
from coordinator.run.context import Loom
from coordinator.run.steps import archive_transfer
from coordinator.run.steps.job_spec import JobBase, known_bases
from coordinator.run.steps.push_errors import reason

T = TypeVar("T")

# The board's sshd forbids forwarding; the engine has a loopback of its own. Neither passes by trying again.
_WALLS = frozenset({"forwarding", "loopback"})


async def image_out(
    loom: Loom, job: Job, attempt: Attempt, tell: Callable[[int, int], None], *, archive: bool = False
) -> str:
    """The digest of what the host built, in the target's first repository, as it came through here.

    `tell` gets bytes done and in all; `archive`: the tunnel is not even tried. Raises LostError, or RegistryError for
    what the registry refused.
    """
    if archive:
        return await archive_transfer.image_out(loom, job, attempt, tell)
    return await _either(
        loom,
        attempt.host,
        lambda: _push(loom, job, attempt, tell),
        lambda: archive_transfer.image_out(loom, job, attempt, tell),
    )


async def bases_in(
    loom: Loom, job: Job, attempt: Attempt, bases: Sequence[JobBase], tell: Callable[[str], None]
) -> None:
    """Makes the host hold these bases of the job. Raises LostError, or RegistryError for what a registry refused."""
    await _either(
        loom,
        attempt.host,
        lambda: _pull(loom, job, attempt, bases, tell),
        lambda: archive_transfer.bases_in(loom, job, attempt, bases, tell),
    )


async def _either(loom: Loom, host: str, tunnel: Callable[[], Awaitable[T]], archive: Callable[[], Awaitable[T]]) -> T:
    """A host whose tunnel turns out to lead nowhere uses archives to the end of the run."""
    if not uses_archives(loom, host):
        try:
            return await tunnel()
        except LostError as error:
            if error.code not in _WALLS:
                raise
            if host not in loom.no_tunnel_hosts:
                loom.no_tunnel_hosts.add(host)
                loom.emit(Notice(f"{error.message}; images and bases of {host} are carried as archives"))
    return await archive()


def uses_archives(loom: Loom, host: str) -> bool:
    """Whether no tunnel leads to the engine of this host, as far as is known."""
    return host in loom.no_tunnel_hosts or not loom.farm.facts_of(host).reaches_tunnel


async def _push(loom: Loom, job: Job, attempt: Attempt, tell: Callable[[int, int], None]) -> str:
    """The digest of the manifest as it came through the broker."""
    name = agent_job(loom.run_id, job, attempt)
    client = await loom.farm.reached_again(attempt.host)
    mount_from = [base.reference for base in known_bases(loom, job, attempt)]
    async with loom.farm.tunnel(attempt.host) as port:
        with loom.broker.door(name, push=loom.request.target.repositories[0], mount_from=mount_from) as door:
            try:
                # A tag of its own: jobs that push at once from one engine share everything else of the name there.
                await client.push(name, port, door.repository, name, door.secret.reveal(), tell)
            except ArchloomError as error:
                raise reason(door, error) from error
            if door.pushed is None:
                raise LostError("the engine says it pushed, and the broker saw no manifest", code="engine")
            return door.pushed.digest


async def _pull(loom: Loom, job: Job, attempt: Attempt, bases: Sequence[JobBase], tell: Callable[[str], None]) -> None:
    name = agent_job(loom.run_id, job, attempt)
    client = await loom.farm.client(attempt.host)
    pulls = {base.shown: base.reference for base in bases}
    async with loom.farm.tunnel(attempt.host) as port:
        with loom.broker.door(name, bases=pulls) as door:
            try:
                await client.pull(name, port, door.secret.reveal(), tell)
            except ArchloomError as error:
                raise reason(door, error) from error
