"""Builds by `POST /build?version=2`: BuildKit without a program on the host, and without a BuildKit session.

Bases must be in the engine's store. A `# syntax` line, secrets and ssh need a session: the engine refuses them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from agents.base.errors import AgentError
from agents.engine import context_tar
from agents.engine.buildkit_trace import decode
from agents.engine.engine_api import RefusedError, target
from agents.engine.engine_stream import Stream
from agents.engine.plain_progress import PlainProgress
from agents.job.spec import Spec
from agents.job.store import CONTEXT


class ApiBuild:
    """One build over the engine's socket. `cancel` closes the connection, which ends the running build step."""

    def __init__(self, spec: Spec, folder: Path, log: BinaryIO, socket: str) -> None:
        self._spec = spec
        self._context = folder / CONTEXT
        self._log = log
        self._stream = Stream(socket)

    def run(self) -> str:
        """Build the image. Return an empty string, or the engine's error message. Raises AgentError `engine`."""
        text = self._spec.dockerfile_bytes
        name = context_tar.place_for(self._context, self._spec.dockerfile_path, text)
        answer = self._stream.post(
            target("/build", query(self._spec, name)),
            {"Content-Type": "application/x-tar"},
            lambda emit: context_tar.send(self._context, text, name, emit, self._log),
        )
        try:
            failure = self._read(answer)
        except RefusedError as error:
            failure = error.message
        if failure:
            self._log.write(f"ERROR: {failure}\n".encode())
        return failure

    def cancel(self) -> None:
        self._stream.abort()

    def _read(self, answer: Iterator[dict[str, Any]]) -> str:
        plain = PlainProgress(self._log)
        built = False
        for message in answer:
            if message.get("id") == "moby.buildkit.trace":
                plain.feed(decode(base64.b64decode(message["aux"])))
            elif message.get("id") == "moby.image.id":
                built = True
            elif "errorDetail" in message:
                return str(message["errorDetail"].get("message") or message.get("error") or "the build failed")
        if not built:
            # The connection of a killed engine ends without an error: only `moby.image.id` proves success.
            raise AgentError("engine", "the engine closed the connection before the build ended", reason="down")
        return ""


def query(spec: Spec, dockerfile: str) -> dict[str, str]:
    """Return the query parameters of `POST /build`; `dockerfile` is the Dockerfile's name in the archive."""
    parameters = {
        "version": "2",
        "t": spec.image,
        "platform": spec.platform,
        "dockerfile": dockerfile,
        "buildargs": json.dumps(spec.build_args),
        "labels": json.dumps(spec.labels),
        "target": spec.stage,
        "nocache": "1" if spec.no_cache else "",
    }
    return {name: value for name, value in parameters.items() if value}
