"""What this process has learned of an engine: asked once, by the probe or by the first who needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.engine.engine_api import EngineSocket
from agents.engine.engine_disk import folders
from agents.job.engine_facts import EngineFacts

# By the path of the engine's socket. A process lives as long as one connection of a coordinator, or one job.
_known: dict[str, EngineFacts] = {}


def facts_of(engine: EngineSocket) -> EngineFacts:
    """Return what is known of this engine; ask it where nobody has. Raises AgentError `engine`."""
    known = _known.get(engine.path)
    return learn(engine, engine.version(), engine.info()) if known is None else known


def learn(engine: EngineSocket, version: Mapping[str, Any], info: Mapping[str, Any]) -> EngineFacts:
    """Keep what the engine has just answered to `GET /version` and `GET /info`."""
    facts = EngineFacts(
        id=str(info.get("ID", "")),
        architecture=str(version.get("Arch", "")),
        least=str(version.get("MinAPIVersion", "")),
        most=str(version.get("ApiVersion", "")),
        folders=folders(info),
    )
    _known[engine.path] = facts
    return facts
