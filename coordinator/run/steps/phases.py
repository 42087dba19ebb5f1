"""The phases of an attempt, told with how long each took."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from coordinator.domain.run.events import Phase, PhaseEnded, Place
from coordinator.run.context import Loom


@contextlib.contextmanager
def phase(loom: Loom, here: Place, name: str, text: str = "") -> Iterator[None]:
    """Tells that a phase begins and, if the block ends well, that it is over."""
    began = loom.env.clock()
    loom.emit(Phase(here, name, text))
    yield
    loom.emit(PhaseEnded(here, name, max(0.0, loom.env.clock() - began)))
