"""The registry clients of one run: opened when first needed, closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from coordinator.domain.hosts.inventory import RegistrySettings
from coordinator.domain.image.references import Reference
from coordinator.registry.auth import CredentialSource
from coordinator.registry.client import Registry


class Registries:
    """Clients by registry host. A registry that the inventory does not list has the default settings.

    `tell` gets a line for the user where a registry keeps a request waiting.
    """

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        credentials: CredentialSource,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self._settings = settings
        self._credentials = credentials
        self._open: dict[str, Registry] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def settings(self, host: str) -> RegistrySettings:
        return self._settings.get(host) or RegistrySettings(host=host)

    async def registry(self, host: str) -> Registry:
        if host not in self._open:
            client = Registry(self.settings(host), self._credentials, tell=self._tell)
            self._open[host] = await self._stack.enter_async_context(client)
        return self._open[host]

    def start_over(self, host: str) -> None:
        """Ask this registry again how it authenticates, and read the credentials for it again."""
        if host in self._open:
            self._open[host].start_over()

    async def check_push(self, repositories: Iterable[Reference]) -> None:
        """Check push access to each repository, before anything is sent to a host. Raises RegistryError without it."""
        for repository in repositories:
            await (await self.registry(repository.registry)).check_push(repository.repository)
