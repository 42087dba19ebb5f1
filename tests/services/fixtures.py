"""The services as fixtures: one of each for all tests, and factories for tests that need their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.services.board_lab import Lab
from tests.services.board_lab import lab as open_lab
from tests.services.board_spec import BoardSpec
from tests.services.boards import Board, board
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


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Where boards are made: `boards.board(lab, BoardSpec(...))` gives a module its own."""
    with open_lab(tmp_path_factory.mktemp("boards") / "lab") as running:
        yield running


@pytest.fixture(scope="session")
def session_farm(lab: Lab) -> Iterator[Mapping[str, Board]]:
    """The boards of `farm`, as the last test left them."""
    users = {"pi-a": "root", "pi-b": "pi", "pi-c": "pi"}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        made = [board(lab, BoardSpec(name=name, user=user)) for name, user in users.items()]
        yield dict(zip(users, pool.map(stack.enter_context, made), strict=True))


@pytest.fixture
def farm(session_farm: Mapping[str, Board]) -> Iterator[Mapping[str, Board]]:
    """Three boards with engines, shared: `pi-a` (root logs in), `pi-b` and `pi-c` (a user of group docker).

    They are on, plugged in, fast and without jobs again after the test. It keeps to names of its own, and leaves no
    slot taken.
    """
    yield session_farm
    for one in session_farm.values():
        one.restore()
        one.clear()


@pytest.fixture(scope="session")
def session_engines(lab: Lab) -> Iterator[Mapping[str, Board]]:
    """The boards of `engines`, as the last test left them."""
    specs = (
        BoardSpec(name="docker20"),
        BoardSpec(name="docker26", system="trixie", store="containerd", user="pi"),
        BoardSpec(name="graph", system="sid"),
        BoardSpec(name="stored", system="sid", store="containerd", user="pi"),
        BoardSpec(name="serviced", system="sid", store="containerd", containerd=True),
    )
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        made = pool.map(stack.enter_context, (board(lab, spec) for spec in specs))
        yield dict(zip((spec.name for spec in specs), made, strict=True))


@pytest.fixture
def engines(session_engines: Mapping[str, Board]) -> Iterator[Mapping[str, Board]]:
    """Boards of every engine, shared as those of `farm` are: Docker 20.10, 26.1 and, on three of them, Debian sid's.

    `docker20` and `graph` keep images in a graph driver; `docker26`, `stored` and `serviced` in containerd's store,
    the last with a containerd that is a service of its own. `pi` logs in on `docker26` and `stored`, else root.
    """
    yield session_engines
    for one in session_engines.values():
        one.restore()
        one.clear()


@pytest.fixture
def own_board(lab: Lab) -> Iterator[Callable[..., Board]]:
    """Starts further boards, which end with the test: `own_board(shell="fish", behind=other)`, as `BoardSpec` says."""
    with ExitStack() as stack:

        def start(behind: Board | None = None, **fields: Any) -> Board:
            return stack.enter_context(board(lab, BoardSpec(**fields), behind))

        yield start
