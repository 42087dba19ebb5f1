"""Prunes the engine's build cache, as `docker builder prune` does."""

from __future__ import annotations

import os

from agents.engine.engine_api import EngineSocket, find_socket


def prune(budget: int) -> int:
    """Remove least recently used records that no build uses until the build cache has at most `budget` bytes.

    Return the bytes freed. What images need stays, and so may more than the budget. Raises AgentError `engine`.
    """
    # API 1.48 has another name for what to keep. An engine ignores the name that it does not know.
    keep = dict.fromkeys(("keep-storage", "reserved-space"), str(budget))
    return prune_engine(EngineSocket(find_socket(os.environ)), keep)


def prune_engine(engine: EngineSocket, query: dict[str, str]) -> int:
    """Prune the build cache of this engine by a query of `POST /build/prune`. Return the bytes freed."""
    answer = engine.call("POST", "/build/prune", query)
    return int(answer.get("SpaceReclaimed") or 0) if isinstance(answer, dict) else 0
