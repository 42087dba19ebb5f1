"""Images as archives: out of the engine and into it, where the tunnel cannot be reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from agents.base.errors import AgentError
from agents.engine import images
from agents.engine.disk_full import shortage
from agents.engine.engine_api import EngineSocket, RefusedError, target
from agents.engine.engine_stream import Send, Stream
from agents.engine.engines import local_engine
from agents.engine.pull import complaint
from agents.job.spec import Spec

# What every tar ends with.
_END = bytes(1024)
_LONGEST_WORD = 16384


def save(spec: Spec, begin: Callable[[dict[str, Any]], None], emit: Send) -> int:
    """The held image as the engine's own archive, piece by piece; its size in bytes.

    `begin` gets `{"image_id", "size"}` once, with the first piece in hand: older engines write the whole archive to
    their disk before that. Raises AgentError `not_built`, `disk` or `engine`, after `begin` too.
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
            tail = (tail + piece)[-_LONGEST_WORD:]
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise _not_built(spec) from error
        raise shortage(engine, error.message) or error from error
    if not tail.endswith(_END):
        # What goes wrong in the middle follows the archive's beginning, and the answer ends in good order.
        said = _last_word(tail) or f"the engine ended the archive of {spec.image} in its middle"
        raise shortage(engine, said) or AgentError("engine", said, reason="refused")
    return size


def lacking(spec: Spec) -> list[str]:
    """The held names of the spec's bases that the engine does not have. Raises AgentError `engine`."""
    return _lacking(local_engine(), spec)


def load(spec: Spec, pieces: Iterable[bytes]) -> dict[str, int]:
    """Hold the spec's bases, from an archive that has them under their held names: `{"loaded", "kept"}`.

    Raises AgentError `base` for what the engine says of the archive, `disk`, `engine`, and what `pieces` raises.
    """
    engine = local_engine()
    wanted = _lacking(engine, spec)
    said = ""

    def body(emit: Send) -> None:
        for piece in pieces:
            emit(piece)

    answer = Stream(engine.path).post(
        target("/images/load", {"quiet": "1"}), {"Content-Type": "application/x-tar"}, body
    )
    try:
        for message in answer:
            said = complaint(message) if "error" in message else said
    except RefusedError as error:
        said = error.message
    if said:
        raise shortage(engine, said) or AgentError("base", said, base=wanted[0] if wanted else "")
    left = _lacking(engine, spec)
    if left:
        # A load that is cut ends like one that is whole; and so does an archive that names others.
        raise AgentError("engine", f"the engine loaded an archive and does not have {left[0]}", reason="down")
    return {"loaded": len(wanted), "kept": len(spec.bases) - len(wanted)}


def _lacking(engine: EngineSocket, spec: Spec) -> list[str]:
    return [base.name for base in spec.bases if images.inspect(engine, base.name) is None]


def _not_built(spec: Spec) -> AgentError:
    return AgentError("not_built", f"the engine has no image {spec.image}")


def _last_word(tail: bytes) -> str:
    """The sentence of an error object at the end of these bytes."""
    start = max(tail.rfind(mark) for mark in (b'{"errorDetail"', b'{"error"', b'{"message"'))
    if start < 0:
        return ""
    try:
        found = json.loads(tail[start:])
    except ValueError:
        return ""
    return str(found.get("message") or found.get("error") or "")
