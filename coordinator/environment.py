"""The surroundings of a run, as a value: nothing below the command line reads them by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """`state` is archloom's state folder, `clock` gives epoch seconds, `holder` is `user@machine`."""

    environ: dict[str, str]
    home: Path
    folder: Path
    state: Path
    clock: Callable[[], float]
    holder: str
