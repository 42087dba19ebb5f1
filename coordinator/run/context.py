"""The context of a run and of an attempt: what the steps take as their argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.domain.causes import Cause
from coordinator.domain.image.descriptors import Descriptor
from coordinator.domain.run.events import Emit, Place
from coordinator.domain.run.model import Attempt, Job
from coordinator.domain.targets.request import BuildRequest
from coordinator.environment import Environment
from coordinator.errors import LostError
from coordinator.publish.registry_pool import Registries
from coordinator.run.deletions import Deletions
from coordinator.run.held_lease import HeldLease
from coordinator.run.hosts import RunHosts
from coordinator.run.inputs.gather import Inputs, InputsGone
from coordinator.run.registry_patience import RegistryPatience
from coordinator.run.session import Session
from coordinator.store.sqlite import Store

if TYPE_CHECKING:
    from coordinator.broker.server import Broker
    from coordinator.domain.hosts.facts import Builder, Facts
    from coordinator.farm.farm import Farm
    from coordinator.hosts.agent.client import AgentClient


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """One run while it is driven, in an open session.

    Use `inputs`; `inputs_or_gone` may be an InputsGone where a resumed run no longer needs them. `push_losses` counts,
    per attempt id, the pushes lost in this process, and `push_percents` is how far the user was told a push had come;
    `last_bytes` tell, per attempt id, when the last byte of a push or pull under way moved, by `time.monotonic()`;
    `no_tunnel_hosts` are hosts whose engine could not reach its tunnel; `layers` are the layer blobs that this process
    uploaded, by repository and diff id (the digest of the uncompressed layer); `deletions` are those of verified jobs
    on their hosts; `patience` has the waits for registries.
    """

    session: Session
    run_id: str
    lease: HeldLease
    request: BuildRequest
    inputs_or_gone: Inputs | InputsGone
    hosts: RunHosts
    push_losses: dict[int, int] = field(default_factory=dict)
    push_percents: dict[int, int] = field(default_factory=dict)
    no_tunnel_hosts: set[str] = field(default_factory=set)
    last_bytes: dict[int, Callable[[], float]] = field(default_factory=dict)
    layers: dict[tuple[str, str], Descriptor] = field(default_factory=dict)
    deletions: Deletions = field(default_factory=Deletions)
    patience: RegistryPatience = field(default_factory=RegistryPatience)

    @property
    def env(self) -> Environment:
        return self.session.env

    @property
    def store(self) -> Store:
        return self.session.store

    @property
    def registries(self) -> Registries:
        return self.session.registries

    @property
    def broker(self) -> Broker:
        return self.session.broker

    @property
    def farm(self) -> Farm:
        return self.session.farm

    @property
    def emit(self) -> Emit:
        return self.session.emit

    @property
    def inputs(self) -> Inputs:
        """The inputs. Raises LostError `changed` where they are gone."""
        if isinstance(self.inputs_or_gone, InputsGone):
            raise LostError(self.inputs_or_gone.reason, code=Cause.CHANGED)
        return self.inputs_or_gone

    def attempt(self, attempt_id: int) -> AttemptContext:
        """Return the attempt as the store has it now. Raises LookupError for an unknown id."""
        for job in self.store.run(self.run_id).jobs:
            for attempt in job.attempts:
                if attempt.id == attempt_id:
                    return AttemptContext(run=self, job=job, attempt=attempt)
        raise LookupError(attempt_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptContext:
    """One attempt and its job, as the store had them when the step began."""

    run: RunContext
    job: Job
    attempt: Attempt

    @property
    def host(self) -> str:
        return self.attempt.host

    @property
    def agent_job(self) -> str:
        """The name of the attempt's job on its host."""
        return self.attempt.agent_job

    @property
    def place(self) -> Place:
        return Place(platform=self.job.platform, host=self.host, mode=self.attempt.mode)

    @property
    def facts(self) -> Facts:
        """The facts of the host. Raises LostError where it did not answer this run's probe."""
        return self.run.farm.facts_of(self.host)

    @property
    def builder(self) -> Builder:
        """How the host's engine builds the platform. Raises LostError `left` where it has left the plan."""
        try:
            return self.run.hosts.builders[self.job.platform, self.host]
        except KeyError:
            raise LostError(f"host '{self.host}' no longer builds {self.job.platform}", code=Cause.LEFT) from None

    async def client(self) -> AgentClient:
        """Return the connected agent on the host; it is not waited for. Raises LostError."""
        return await self.run.farm.client(self.host)
