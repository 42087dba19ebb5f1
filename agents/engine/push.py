"""Pushes the held image through the tunnel, under a temporary name in the tunnel's registry."""

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
from agents.engine.pull import error_text
from agents.job.spec import Spec

# The engine reports progress for every 512 KiB of each layer, or 1 % where that is less (moby,
# pkg/progress/progressreader.go): pass on less.
_INTERVAL_S = 0.25
_LAYER_DONE = frozenset({"Pushed", "Layer already exists"})
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
    """Push the held image. Return `{"digest", "size"}` of the manifest as the engine reports them.

    Safe to repeat, also on another port. `progress` gets bytes done and bytes in total, of the layers the engine has
    started. Raises AgentError `not_built`, `refused` (the registry's error), `tunnel`, `loopback`, `engine` or
    `cancelled`.
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
    """Hold the lock of a name: the engine resolves the name late, when another job may have moved it to its image."""
    lock = _pushing.setdefault(name, threading.Lock())
    while not lock.acquire(timeout=_INTERVAL_S):
        if cancelled.is_set():
            raise AgentError("cancelled", f"the push of {name} was cancelled before it began")
    try:
        yield
    finally:
        lock.release()


def _drop(engine: EngineSocket, image: str, name: str, tag: str) -> None:
    """Untag the names a push leaves: the tag, and the pushed digest, which would keep the image forever."""
    images.untag(engine, f"{name}:{tag}")
    description = images.inspect(engine, image) or {}
    for reference in description.get("RepoDigests") or ():
        if reference.startswith(f"{name}@"):
            images.untag(engine, reference)


def _choice(held: dict[str, Any], platform: str) -> dict[str, str]:
    """Return the query parameter that selects one image of an index; empty for a single image.

    Of an incomplete index the engine pushes one image, that of its own platform and not the job's. A single image is
    pushed with its attestations: a `platform` parameter would leave them out.
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
    failure, pushed = "", None
    try:
        with aborted_by(cancelled, stream):
            for message in stream.post(target(f"/images/{name}/push", query), header):
                failure = error_text(message) if "error" in message else failure
                pushed = _result(message) or pushed
                layers.tell(message)
    except RefusedError as error:
        failure = error.message
    except AgentError:
        if not cancelled.is_set():
            raise
    if cancelled.is_set() and pushed is None:
        raise AgentError("cancelled", f"the push of {name}:{query['tag']} was cancelled")
    if failure:
        raise tunnel.broken(port, failure) or AgentError("refused", failure)
    if pushed is None:
        error_message = f"the engine closed the connection while it pushed {name}:{query['tag']}"
        raise AgentError("engine", error_message, reason="down")
    return pushed


def _result(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return digest and size from the status line with which every engine ends a push; None for other messages.

    Only engines with a graph driver also send them as `aux`.
    """
    match = _PUSHED.search(str(message.get("status", "")))
    return {"digest": match[1], "size": int(match[2])} if match else None


class Layers:
    """Sums the bytes of all layers, and reports them at most every 0.25 s, and at the end."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._layers: dict[str, tuple[int, int]] = {}
        self._reported_at = 0.0
        self._reported = (0, 0)

    def tell(self, message: dict[str, Any]) -> None:
        """Add one of the engine's messages to the sums."""
        layer, detail = message.get("id"), message.get("progressDetail") or {}
        if not layer:
            return
        if "current" in detail:
            current = int(detail["current"])
            # The engine only estimates a layer's size before it has compressed it.
            self._layers[layer] = (current, max(current, int(detail.get("total") or 0)))
        elif message.get("status") in _LAYER_DONE:
            total = self._layers.get(layer, (0, 0))[1]
            self._layers[layer] = (total, total)
        self._report()

    def _report(self) -> None:
        now = time.monotonic()
        sums = (sum(done for done, _ in self._layers.values()), sum(total for _, total in self._layers.values()))
        finished = sums[0] == sums[1]
        if sums != self._reported and (finished or now - self._reported_at >= _INTERVAL_S):
            self._reported_at, self._reported = now, sums
            self._progress(*sums)
