"""An environment for code that takes one: a home and a state folder of its own."""

from __future__ import annotations

from pathlib import Path

from coordinator.environment import Environment


def environment(home: Path) -> Environment:
    return Environment(
        environ={}, home=home, folder=home, state=home / "state", clock=lambda: 1000.0, holder="ada@here"
    )
