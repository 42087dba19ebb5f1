"""The held image through the tunnel, under a name of the tunnel's that is gone afterwards."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agents.base.errors import AgentError
from agents.engine import images, tunnel
from agents.engine.engine_api import EngineSocket, RefusedError, target
from agents.engine.engine_stream import Stream, aborted_by
from agents.engine.engines import local_engine
from agents.engine.pull import complaint
from agents.job.spec import Spec

# The engine tells of every 512 KiB of every layer.
_OFTEN = 0.25
_WHOLE = frozenset({"Pushed", "Layer already exists"})
_PUSHED = re.compile(r": digest: (sha256:[0-9a-f]{64}) size: (\d+)\Z")
_pushing: dict[str, threading.Lock] = {}

Progress = Callable[[int, int], None]


def push(
    spec: Spec,
    port: int,
    repository: str,
    tag: str,
    secret: str,
    progress: Progress,
    cancelled: threading.Event,
) -> dict[str, Any]:
    """Push: `{"digest", "size"}` of the manifest as the engine sent it. Safe to repeat, also on another port.

    `progress` gets bytes done and in all, of the layers the engine has begun with. Raises AgentError `not_built`,
    `refused` (the registry's word), `tunnel`, `loopback`, `engine` or `cancelled`.
    """
    engine = local_engine()
    held = images.inspect(engine, spec.image, manifests=True)
    if held is None:
        raise AgentError("not_built", f"the engine has no image {spec.image}")
    query = {"tag": tag, **_choice(held, spec.platform)}
    name = f"{tunnel.registry(port)}/{repository}"
    with _alone(f"{name}:{tag}", cancelled):
        images.tag(engine, spec.image, f"{name}:{tag}")
        try:
            return _send(engine, name, query, tunnel.credentials(spec, port, secret), port, Layers(progress), cancelled)
        finally:
            _drop(engine, spec.image, name, tag)


@contextmanager
def _alone(name: str, cancelled: threading.Event) -> Iterator[None]:
    """One push at a time under one name: the engine looks the name up when it begins, and it is another job's then."""
    lock = _pushing.setdefault(name, threading.Lock())
    while not lock.acquire(timeout=_OFTEN):
        if cancelled.is_set():
            raise AgentError("cancelled", f"the push of {name} was cancelled before it began")
    try:
        yield
    finally:
        lock.release()


def _drop(engine: EngineSocket, image: str, name: str, tag: str) -> None:
    """The names a push leaves: the tag, and the digest that was pushed, which would keep the image for ever."""
    images.untag(engine, f"{name}:{tag}")
    found = images.inspect(engine, image) or {}
    for reference in found.get("RepoDigests") or ():
        if reference.startswith(f"{name}@"):
            images.untag(engine, reference)


def _choice(held: dict[str, Any], platform: str) -> dict[str, str]:
    """Which of an index's images is to be pushed, as the query has it; empty where there is one.

    Of an index that it does not have whole the engine pushes one image, its own platform's rather than ours. An image
    and its attestations are pushed as they are: naming a platform would leave the attestations behind.
    """
    if sum(entry.get("Kind") == "image" for entry in held.get("Manifests") or ()) < 2:
        return {}
    return {"platform": json.dumps(dict(zip(("os", "architecture", "variant"), platform.split("/"))))}


def _send(
    engine: EngineSocket,
    name: str,
    query: dict[str, str],
    header: dict[str, str],
    port: int,
    layers: Layers,
    cancelled: threading.Event,
) -> dict[str, Any]:
    stream = Stream(engine.path)
    said, pushed = "", None
    try:
        with aborted_by(cancelled, stream):
            for message in stream.post(target(f"/images/{name}/push", query), header):
                said = complaint(message) if "error" in message else said
                pushed = _result(message) or pushed
                layers.tell(message)
    except RefusedError as error:
        said = error.message
    except AgentError:
        if not cancelled.is_set():
            raise
    if cancelled.is_set() and pushed is None:
        raise AgentError("cancelled", f"the push of {name}:{query['tag']} was cancelled")
    if said:
        raise tunnel.broken(port, said) or AgentError("refused", said)
    if pushed is None:
        cut = f"the engine closed the connection while it pushed {name}:{query['tag']}"
        raise AgentError("engine", cut, reason="down")
    return pushed


def _result(message: dict[str, Any]) -> dict[str, Any] | None:
    """What the status line says that every engine ends a push with; None for any other message.

    The `aux` with the same comes from engines with a graph driver only.
    """
    found = _PUSHED.search(str(message.get("status", "")))
    return {"digest": found[1], "size": int(found[2])} if found else None


class Layers:
    """Bytes over all layers, told a few times a second."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._layers: dict[str, tuple[int, int]] = {}
        self._reported_at = 0.0
        self._reported = (0, 0)

    def tell(self, message: dict[str, Any]) -> None:
        """Take one of the engine's messages in."""
        layer, detail = message.get("id"), message.get("progressDetail") or {}
        if not layer:
            return
        if "current" in detail:
            current = int(detail["current"])
            # The engine guesses the size of a layer before it has compressed it.
            self._layers[layer] = (current, max(current, int(detail.get("total") or 0)))
        elif message.get("status") in _WHOLE:
            total = self._layers.get(layer, (0, 0))[1]
            self._layers[layer] = (total, total)
        self._report()

    def _report(self) -> None:
        now = time.monotonic()
        known = (sum(done for done, _ in self._layers.values()), sum(total for _, total in self._layers.values()))
        finished = known[0] == known[1]
        if known != self._reported and (finished or now - self._reported_at >= _OFTEN):
            self._reported_at, self._reported = now, known
            self._progress(*known)
