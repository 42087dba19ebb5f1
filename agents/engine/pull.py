"""Pulls bases by digest through the tunnel into the engine's store, under their held names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from agents.base.errors import AgentError
from agents.engine import images, tunnel
from agents.engine.engine_api import EngineSocket, RefusedError, target
from agents.engine.engine_stream import Stream, aborted_by
from agents.engine.engines import local_engine
from agents.engine.host_error import host_error
from agents.job.spec import Base, Spec

_holding = threading.Lock()
# How often it is said that the engine is at work. The coordinator waits for a minute without it.
_AT_WORK_S = 5.0


def pull(
    spec: Spec, port: int, secret: str, progress: Callable[[str], None], cancelled: threading.Event
) -> dict[str, int]:
    """Pull every base of the spec that is not held yet. Return `{"pulled", "kept"}`. Idempotent.

    Raises AgentError `base` (the registry's error, and which base), `disk`, `tunnel`, `loopback`, `engine` or
    `cancelled`.
    """
    engine = local_engine()
    header = tunnel.credentials(spec, port, secret)
    pulled = kept = 0
    for base in spec.bases:
        # A held name contains the digest and is set last, so the image it names is complete and the right one.
        if images.inspect(engine, base.name) is not None:
            kept += 1
            continue
        reference = f"{tunnel.registry(port)}/{base.repository}@{base.digest}"
        try:
            _fetch(engine, base, port, header, progress, cancelled)
            _hold(engine, base, reference)
        except AgentError:
            # The pull may have finished before it was cancelled, and this name would keep the image forever.
            with suppress(AgentError):
                images.untag(engine, reference)
            raise
        progress(f"{base.name}: pulled")
        pulled += 1
    return {"pulled": pulled, "kept": kept}


def _fetch(
    engine: EngineSocket,
    base: Base,
    port: int,
    header: dict[str, str],
    progress: Callable[[str], None],
    cancelled: threading.Event,
) -> None:
    repository = f"{tunnel.registry(port)}/{base.repository}"
    query = {"fromImage": repository, "tag": base.digest, "platform": base.platform}
    progress(f"{base.name}: pulling")
    stream = Stream(engine.path)
    try:
        with aborted_by(cancelled, stream):
            answer = stream.post(target("/images/create", query), header)
            failure = next((error_text(message) for message in _saying_so(answer, progress) if "error" in message), "")
    except RefusedError as error:
        failure = error.message
    except AgentError:
        if cancelled.is_set():
            raise _cancelled(base) from None
        raise
    if cancelled.is_set():
        raise _cancelled(base)
    if failure:
        raise _fault(engine, base, port, failure)


def _saying_so(answer: Iterator[dict[str, Any]], progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Pass the engine's messages on. While it unpacks a layer no byte is pulled: say that it is at work."""
    said_at = time.monotonic()
    for message in answer:
        if time.monotonic() - said_at >= _AT_WORK_S:
            said_at = time.monotonic()
            progress("")
        yield message


def _hold(engine: EngineSocket, base: Base, reference: str) -> None:
    """Replace the tunnel's name by the held name. Locked: another job may pull the same base through this tunnel."""
    with _holding:
        if images.inspect(engine, base.name) is None:
            if images.inspect(engine, reference) is None:
                # A truncated answer ends like that of a complete pull.
                message = f"the engine closed the connection while it pulled {base.name}"
                raise AgentError("engine", message, reason="down")
            images.tag(engine, reference, base.name)
        images.untag(engine, reference)


def _fault(engine: EngineSocket, base: Base, port: int, said: str) -> AgentError:
    known = host_error(engine, f"{base.name}: {said}")
    return known or tunnel.broken(port, said) or AgentError("base", f"{base.name}: {said}", base=base.name)


def error_text(message: dict[str, Any]) -> str:
    """Return the message of one of the engine's error objects."""
    return str((message.get("errorDetail") or {}).get("message") or message["error"])


def _cancelled(base: Base) -> AgentError:
    return AgentError("cancelled", f"the pull of {base.name} was cancelled")
