"""Everything the actions of one run work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.broker.server import Broker
from coordinator.domain.hosts.facts import Builder
from coordinator.domain.image.descriptors import Descriptor
from coordinator.domain.image.platforms import Platform
from coordinator.domain.run.events import Emit, Place
from coordinator.domain.run.model import Attempt, Job, Run
from coordinator.domain.targets.request import BuildRequest
from coordinator.environment import Environment
from coordinator.errors import LostError, UsageError
from coordinator.farm.farm import Farm
from coordinator.publish.registry_pool import Registries
from coordinator.run.held_lease import HeldLease
from coordinator.run.inputs.gather import Inputs
from coordinator.store.sqlite import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Loom:
    """`lease` is kept while the run is driven; `builders` says how each host's engine is made to build each platform.

    `gathered` is what the run builds from, or why that cannot be had any more: a run that is gone on with may need it
    no longer. `push_losses` counts, per attempt, the pushes that were lost in this process; `no_tunnel_hosts` are hosts whose
    tunnel led nowhere, and `layers` the blobs of layers that went through here, by repository and uncompressed digest.
    """

    run_id: str
    lease: HeldLease
    request: BuildRequest
    gathered: Inputs | UsageError
    env: Environment
    store: Store
    registries: Registries
    broker: Broker
    farm: Farm
    builders: Mapping[tuple[Platform, str], Builder]
    emit: Emit
    push_losses: dict[int, int] = field(default_factory=dict)
    no_tunnel_hosts: set[str] = field(default_factory=set)
    layers: dict[tuple[str, str], Descriptor] = field(default_factory=dict)

    @property
    def inputs(self) -> Inputs:
        """Raises LostError `changed` where what was asked for cannot be built from here any more."""
        if isinstance(self.gathered, UsageError):
            raise LostError(self.gathered.message, hint=self.gathered.hint, code="changed")
        return self.gathered

    def builder(self, platform: Platform, host: str) -> Builder:
        """Raises LostError where the host has left the plan since the job was given to it."""
        try:
            return self.builders[platform, host]
        except KeyError:
            raise LostError(f"host '{host}' does not take {platform} any more", code="left") from None

    def find(self, attempt_id: int) -> tuple[Run, Job, Attempt]:
        """The attempt as it is stored now, with its job and run."""
        run = self.store.run(self.run_id)
        for job in run.jobs:
            for attempt in job.attempts:
                if attempt.id == attempt_id:
                    return run, job, attempt
        raise LookupError(attempt_id)


def place(job: Job, attempt: Attempt) -> Place:
    return Place(platform=job.platform, host=attempt.host, mode=attempt.mode)
