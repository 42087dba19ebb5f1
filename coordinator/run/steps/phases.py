"""The phases of an attempt as events, with their durations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from coordinator.domain.run.events import Phase, PhaseEnded
from coordinator.run.context import AttemptContext


@contextlib.contextmanager
def phase(ctx: AttemptContext, name: str, text: str = "") -> Iterator[None]:
    """Emit the start of a phase and, if the block succeeds, its end with the duration in seconds."""
    clock = ctx.run.env.clock
    began = clock()
    ctx.run.emit(Phase(ctx.place, name, text))
    yield
    ctx.run.emit(PhaseEnded(ctx.place, name, max(0.0, clock() - began)))
