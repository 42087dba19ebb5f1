"""The session that runs work in: registries, broker, hosts with their probes, store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from coordinator.config.credentials import DockerCredentials
from coordinator.domain.hosts.inventory import Inventory
from coordinator.domain.run.events import Emit, Notice
from coordinator.environment import Environment
from coordinator.publish.registry_pool import Registries
from coordinator.store.sqlite import Store

if TYPE_CHECKING:
    from coordinator.broker.server import Broker
    from coordinator.farm.farm import Farm
    from coordinator.farm.probe import Probing


class Session:
    """Open while the block of `open_session` runs. One session may serve several runs.

    Broker, farm and probing are made when first used, and their modules imported: a run that needs no host is quick.
    """

    def __init__(
        self,
        inventory: Inventory,
        env: Environment,
        store: Store,
        emit: Emit,
        registries: Registries,
        stack: AsyncExitStack,
    ) -> None:
        self.inventory = inventory
        self.env = env
        self.store = store
        self.emit = emit
        self.registries = registries
        self._stack = stack

    @cached_property
    def broker(self) -> Broker:
        """The broker of the session's registries."""
        from coordinator.broker.server import Broker
        from coordinator.publish.upstream import Upstream

        broker = Broker(Upstream(self.registries))
        self._stack.push_async_exit(broker)
        return broker

    @cached_property
    def farm(self) -> Farm:
        """The hosts of the inventory. Its connections are opened when first needed."""
        from coordinator.farm.farm import Farm

        farm = Farm(self.inventory, self.env, self.broker)
        self._stack.push_async_exit(farm)
        return farm

    @cached_property
    def probing(self) -> Probing:
        """The probes of the hosts."""
        from coordinator.farm.fact_cache import FactCache
        from coordinator.farm.probe import Probing

        facts = FactCache(self.store, self.env.clock)
        probing = Probing(self.farm, self.inventory, facts, self.env, self.emit)
        self._stack.push_async_exit(probing)
        return probing


@contextlib.asynccontextmanager
async def open_session(inventory: Inventory, env: Environment, store: Store, emit: Emit) -> AsyncIterator[Session]:
    """Open a session. Connections are opened when first needed, and closed when the block ends."""
    async with AsyncExitStack() as stack:
        credentials = DockerCredentials(env.environ, env.home)
        # A helper that waits for its user must not delay the end: a worker thread waits for it.
        stack.callback(credentials.end_helpers)
        registries = await stack.enter_async_context(
            Registries(inventory.registries, credentials, lambda text: emit(Notice(text)))
        )
        yield Session(inventory, env, store, emit, registries, stack)
