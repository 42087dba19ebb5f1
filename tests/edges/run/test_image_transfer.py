"""Through the tunnel or as an archive: which way is tried, what is told, and what is no reason to change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from coordinator.errors import LostError
from coordinator.run.steps.image_transfer import _with_fallback


class Ways:
    """Both ways, and which was taken how often."""

    def __init__(self, *, reaches: bool = True, code: str = "") -> None:
        self.taken: list[str] = []
        self.notices: list[object] = []
        self._code = code
        self.attempt = SimpleNamespace(
            host="pi5",
            facts=SimpleNamespace(reaches_tunnel=reaches),
            run=SimpleNamespace(no_tunnel_hosts=set(), emit=self.notices.append),
        )

    def way(self, name: str, code: str) -> Callable[[], Awaitable[str]]:
        async def go() -> str:
            self.taken.append(name)
            if code:
                raise LostError(f"host 'pi5': {code}", code=code)
            return name

        return go

    async def go(self) -> str:
        return await _with_fallback(self.attempt, self.way("tunnel", self._code), self.way("archive", ""))


async def test_an_engine_that_reaches_the_tunnel_uses_it():
    """And nothing is told."""
    ways = Ways()

    assert await ways.go() == "tunnel"
    assert (ways.taken, ways.notices) == (["tunnel"], [])


async def test_a_rootless_engine_is_not_asked_to_try():
    """Its facts say so already: no try, no word."""
    ways = Ways(reaches=False)

    assert await ways.go() == "archive"
    assert (ways.taken, ways.notices) == (["archive"], [])


@pytest.mark.parametrize("code", ["forwarding", "loopback"])
async def test_what_stands_in_the_way_is_found_out_once(code):
    """The host uses archives from then on, and a person is told why, once."""
    ways = Ways(code=code)

    assert [await ways.go() for _ in range(3)] == ["archive"] * 3
    assert ways.taken == ["tunnel", "archive", "archive", "archive"]
    assert len(ways.notices) == 1
    assert code in str(ways.notices[0])


@pytest.mark.parametrize("code", ["tunnel", "connection", "engine", "registry", "not_built", "disk"])
async def test_what_may_pass_changes_nothing(code):
    """A tunnel that broke is opened again: no archive, and the error is the caller's."""
    ways = Ways(code=code)

    for _ in range(2):
        with pytest.raises(LostError):
            await ways.go()
    assert (ways.taken, ways.notices) == (["tunnel", "tunnel"], [])
