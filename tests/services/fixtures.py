"""The services as fixtures: one of each for all tests, and factories for tests that need their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.engine import engine_socket, require_emulation
from tests.services.registry import Registry, plain, with_password, with_tokens
from tests.services.tokens import TokenServer, token_server

USER, PASSWORD = "ada", "correct:horse ü"
PUBLIC = "public/base"


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A plain registry, shared: a test keeps to repositories of its own."""
    with plain(tmp_path_factory.mktemp("registry") / "plain") as running:
        yield running


@pytest.fixture
def own_registry(tmp_path: Path) -> Iterator[Callable[[], Registry]]:
    """Starts further plain registries, which end with the test."""
    with ExitStack() as stack:
        count = iter(range(100))
        yield lambda: stack.enter_context(plain(tmp_path / f"registry-{next(count)}"))


@pytest.fixture(scope="session")
def password_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry behind htpasswd; `USER` and `PASSWORD` may do everything."""
    with with_password(tmp_path_factory.mktemp("registry") / "password", USER, PASSWORD) as running:
        yield running


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    """A token server: `USER` may do everything, anybody may pull `PUBLIC`."""
    with token_server({USER: PASSWORD}, frozenset({PUBLIC})) as running:
        yield running


@pytest.fixture
def token_registry(tmp_path: Path, tokens: TokenServer) -> Iterator[Registry]:
    """A registry behind `tokens`."""
    with with_tokens(tmp_path / "token-registry", tokens) as running:
        yield running


@pytest.fixture(scope="session")
def engine() -> Path:
    """The socket of this machine's engine."""
    return engine_socket()


@pytest.fixture(scope="session")
def emulation() -> None:
    """This machine runs containers of all platforms the project promises."""
    require_emulation("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")
