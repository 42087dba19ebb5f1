"""Saves and loads images as archives, for an engine that cannot reach the tunnel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from agents.base.errors import AgentError
from agents.engine import images
from agents.engine.engine_api import EngineSocket, RefusedError, target
from agents.engine.engine_stream import Send, Stream
from agents.engine.engines import local_engine
from agents.engine.host_error import host_error
from agents.engine.pull import error_text
from agents.job.spec import Spec

# POSIX, pax, "ustar Interchange Format": an archive ends with two 512-byte records of zeros.
_TAR_END = bytes(1024)
_TAIL_BYTES = 16384


def save(spec: Spec, begin: Callable[[dict[str, Any]], None], emit: Send) -> int:
    """Pass the engine's archive of the held image to `emit`, piece by piece. Return its size in bytes.

    `begin` gets `{"image_id", "size"}` once, when the first piece has arrived: older engines write the whole archive
    to their disk before that. Raises AgentError `not_built`, `disk` or `engine`, also after `begin`.
    """
    engine = local_engine()
    image = images.inspect(engine, spec.image)
    if image is None:
        raise _not_built(spec)
    size, tail = 0, b""
    try:
        for piece in Stream(engine.path).get(target(f"/images/{spec.image}/get")):
            if not size:
                begin({"image_id": str(image["Id"]), "size": int(image.get("Size") or 0)})
            emit(piece)
            size += len(piece)
            tail = (tail + piece)[-_TAIL_BYTES:]
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise _not_built(spec) from error
        raise host_error(engine, error.message) or error from error
    if not tail.endswith(_TAR_END):
        # The engine appends an error during the export to the archive as JSON, and ends the response normally.
        failure = _last_word(tail) or f"the engine ended the archive of {spec.image} early"
        raise host_error(engine, failure) or AgentError("engine", failure, reason="refused")
    return size


def lacking(spec: Spec) -> list[str]:
    """Return the held names of the spec's bases that the engine does not have. Raises AgentError `engine`."""
    return _lacking(local_engine(), spec)


def load(spec: Spec, pieces: Iterable[bytes]) -> dict[str, int]:
    """Load the spec's bases from an archive that has them under their held names. Return `{"loaded", "kept"}`.

    Raises AgentError `base` with the engine's error about the archive, `disk`, `engine`, and what `pieces` raises.
    """
    engine = local_engine()
    missing = _lacking(engine, spec)
    failure = ""

    def body(emit: Send) -> None:
        for piece in pieces:
            emit(piece)

    answer = Stream(engine.path).post(
        target("/images/load", {"quiet": "1"}), {"Content-Type": "application/x-tar"}, body
    )
    try:
        for message in answer:
            failure = error_text(message) if "error" in message else failure
    except RefusedError as error:
        failure = error.message
    if failure:
        raise host_error(engine, failure) or AgentError("base", failure, base=missing[0] if missing else "")
    still_missing = _lacking(engine, spec)
    if still_missing:
        # The engine reports no error for a truncated load, nor for an archive of other images.
        raise AgentError("engine", f"the engine loaded an archive, but does not have {still_missing[0]}", reason="down")
    return {"loaded": len(missing), "kept": len(spec.bases) - len(missing)}


def _lacking(engine: EngineSocket, spec: Spec) -> list[str]:
    return [base.name for base in spec.bases if images.inspect(engine, base.name) is None]


def _not_built(spec: Spec) -> AgentError:
    return AgentError("not_built", f"the engine has no image {spec.image}")


def _last_word(tail: bytes) -> str:
    """Return the message of a JSON error object at the end of these bytes; empty where there is none."""
    start = max(tail.rfind(mark) for mark in (b'{"errorDetail"', b'{"error"', b'{"message"'))
    if start < 0:
        return ""
    try:
        error = json.loads(tail[start:])
    except ValueError:
        return ""
    return str(error.get("message") or error.get("error") or "")
