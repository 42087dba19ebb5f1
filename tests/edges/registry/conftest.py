"""A client of the plain registry, and a repository for each test."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from coordinator.registry.client import Registry
from tests.edges.registry.real_registry import (
    client,
)
from tests.services.registry import Registry as Service


@pytest.fixture
async def ours(registry: Service) -> AsyncIterator[Registry]:
    """Our client of the plain registry."""
    async with client(registry) as opened:
        yield opened


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository nobody else uses."""
    return "tests/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
