"""What every run works in, begun now or gone on with: registries, broker, hosts, what is known of them, the store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from coordinator.broker.server import Broker
from coordinator.config.credentials import DockerCredentials
from coordinator.domain.hosts.facts import Builder
from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.image.platforms import Platform
from coordinator.domain.run.events import Emit
from coordinator.domain.targets.request import BuildRequest
from coordinator.environment import Environment
from coordinator.errors import UsageError
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.farm import Farm
from coordinator.farm.probe import Probing
from coordinator.publish.registry_pool import Registries
from coordinator.publish.upstream import Upstream
from coordinator.run.context import Loom
from coordinator.run.held_lease import HeldLease
from coordinator.run.inputs.gather import Inputs
from coordinator.store.sqlite import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Open as long as the block of `open_session` runs."""

    inventory: Inventory
    env: Environment
    store: Store
    registries: Registries
    broker: Broker
    farm: Farm
    probing: Probing
    emit: Emit

    def loom(
        self,
        run_id: str,
        lease: HeldLease,
        request: BuildRequest,
        gathered: Inputs | UsageError,
        builders: Mapping[tuple[Platform, str], Builder],
    ) -> Loom:
        """What the actions of this run work with."""
        return Loom(
            run_id=run_id,
            lease=lease,
            request=request,
            gathered=gathered,
            env=self.env,
            store=self.store,
            registries=self.registries,
            broker=self.broker,
            farm=self.farm,
            builders=builders,
            emit=self.emit,
        )


@contextlib.asynccontextmanager
async def open_session(inventory: Inventory, env: Environment, store: Store, emit: Emit) -> AsyncIterator[Session]:
    """Connections are opened when they are first needed."""
    async with AsyncExitStack() as stack:
        credentials = DockerCredentials(env.environ, env.home)
        registries = await stack.enter_async_context(Registries(inventory.registries, credentials))
        broker = await stack.enter_async_context(Broker(Upstream(registries)))
        farm = await stack.enter_async_context(Farm(inventory, env, broker))
        memory = FactCache(store, env.clock)
        probing = await stack.enter_async_context(Probing(farm, inventory, memory, env, emit))
        yield Session(
            inventory=inventory,
            env=env,
            store=store,
            registries=registries,
            broker=broker,
            farm=farm,
            probing=probing,
            emit=emit,
        )
