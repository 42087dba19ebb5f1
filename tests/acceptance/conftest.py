"""What every acceptance test starts from: a user's home, a context to build, and an engine left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.archloom import Home, context
from tests.acceptance.leftovers import stays
from tests.services.boards import LIST_IMAGES, ours
from tests.services.images import base_image
from tests.services.judges import docker

FOUR = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")
HELLO = """\
FROM {base}
ARG GREETING=hello
RUN echo "$GREETING from $(uname -m)" >/hello.txt
CMD ["cat", "/hello.txt"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder)


@pytest.fixture
def hello(registry, tmp_path: Path) -> Path:
    """A context whose RUN executes code of each platform."""
    base = base_image(registry, *FOUR, repository="main/base")
    return context(tmp_path / "hello", HELLO.format(base=base.reference))


def held() -> set[str]:
    """Images that an engine holds for us."""
    return set(ours(docker(*LIST_IMAGES)))


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """What the test builds is gone from the engine when it ends."""
    before = held()
    yield
    assert stays(lambda: held() - before) == set()
