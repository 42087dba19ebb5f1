"""The session that runs work in: registries, broker, hosts with their probes, store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from coordinator.broker.server import Broker
from coordinator.config.credentials import DockerCredentials
from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.run.events import Emit
from coordinator.environment import Environment
from coordinator.farm.fact_cache import FactCache
from coordinator.farm.farm import Farm
from coordinator.farm.probe import Probing
from coordinator.publish.registry_pool import Registries
from coordinator.publish.upstream import Upstream
from coordinator.store.sqlite import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Open while the block of `open_session` runs. One session may serve several runs."""

    inventory: Inventory
    env: Environment
    store: Store
    registries: Registries
    broker: Broker
    farm: Farm
    probing: Probing
    emit: Emit


@contextlib.asynccontextmanager
async def open_session(inventory: Inventory, env: Environment, store: Store, emit: Emit) -> AsyncIterator[Session]:
    """Open a session. Connections are opened when first needed, and closed when the block ends."""
    async with AsyncExitStack() as stack:
        credentials = DockerCredentials(env.environ, env.home)
        registries = await stack.enter_async_context(Registries(inventory.registries, credentials))
        broker = await stack.enter_async_context(Broker(Upstream(registries)))
        farm = await stack.enter_async_context(Farm(inventory, env, broker))
        fact_cache = FactCache(store, env.clock)
        probing = await stack.enter_async_context(Probing(farm, inventory, fact_cache, env, emit))
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
