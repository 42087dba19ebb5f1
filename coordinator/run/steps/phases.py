"""The phases of an attempt, reported with how long each took."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from coordinator.domain.run.events import Phase, PhaseEnded
from coordinator.run.context import AttemptContext


@contextlib.contextmanager
def phase(ctx: AttemptContext, name: str, text: str = "") -> Iterator[None]:
    """Report that a phase begins and, if the block ends well, that it is over."""
    clock = ctx.run.env.clock
    began = clock()
    ctx.run.emit(Phase(ctx.place, name, text))
    yield
    ctx.run.emit(PhaseEnded(ctx.place, name, max(0.0, clock() - began)))
