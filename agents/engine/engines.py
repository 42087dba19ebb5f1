"""Builds with this host's engine: chooses the client, and turns the outcome into the result of the wire."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from agents.base import process
from agents.base.errors import AgentError
from agents.base.state import open_state
from agents.engine import context_records, failure_cause, images
from agents.engine.build_api import ApiBuild
from agents.engine.build_cli import CliBuild, environment
from agents.engine.docker_clis import find_cli
from agents.engine.engine_api import EngineSocket, find_socket
from agents.engine.guard import Guard, Thresholds, Watched
from agents.engine.known_engine import facts_of
from agents.engine.monitor import Evidence, Monitor
from agents.job import engine_facts, results
from agents.job.engine_facts import EngineFacts
from agents.job.log_tail import tail
from agents.job.spec import Spec
from agents.job.store import CONTEXT

# How long an engine may take to export an image after its client is gone, and how often the agent looks for it.
_EXPORT_S, _POLL_S = 60.0, 0.5


class BuildClient(Protocol):
    """One way to build. `run` returns "" or the error; it raises AgentError `engine` where the outcome is unknown."""

    def run(self) -> str: ...
    def cancel(self) -> None: ...


def local_engine() -> EngineSocket:
    """Return the engine that this user's environment selects."""
    return EngineSocket(find_socket(os.environ))


def ping() -> None:
    """Return once the engine has answered. Raises AgentError `engine` where none is reached."""
    local_engine().ping()


def local_facts() -> EngineFacts:
    """Return what this process knows of the engine, which is asked where nobody has. Raises AgentError `engine`."""
    return facts_of(local_engine())


def prepare(spec: Spec, folder: Path, log: BinaryIO, thresholds: Thresholds | None = None) -> EngineBuild:
    """Return the build of this spec in this job folder. Raises AgentError `engine` where its program is missing."""
    engine = local_engine()
    facts = engine_facts.read(folder) or facts_of(engine)
    return EngineBuild(spec, folder, engine, facts, _build_client(spec, folder, log, engine, facts), thresholds)


def discard(spec: Spec) -> None:
    """Untag the spec's image and its bases in the engine's store. Idempotent."""
    engine = local_engine()
    for name in (spec.image, *(base.name for base in spec.bases)):
        images.untag(engine, name)


class EngineBuild:
    """One build, from the check of its bases to its result. `cancel` may be called by any thread at any time."""

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        engine: EngineSocket,
        facts: EngineFacts,
        client: BuildClient,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._spec = spec
        self._folder = folder
        self._engine = engine
        self._facts = facts
        self._build_client = client
        self._thresholds = thresholds
        self._cancelled = False
        self._cut_short = False
        self._context = Path(os.path.realpath(folder / CONTEXT))
        self._copied: context_records.Copied | None = None

    def run(self) -> dict[str, Any]:
        """Return the result: BUILT, FAILED, LOST or CANCELLED. Raises AgentError `engine` where no engine answers."""
        missing = self._missing_base()
        if missing:
            return {"state": "LOST", "code": "base", "message": missing}
        folders = [*self._facts.folders, str(self._folder)]
        with Monitor(self._engine, folders) as witness, self._guard(folders) as guard:
            lost, began = False, time.time()
            try:
                failure = self._build_client.run()
            except AgentError as error:
                failure, lost = error.message, True
            if not failure:
                self._copied = context_records.read_log(self._folder / results.LOG, began, time.time())
                return self._built()
            if self._cancelled or guard.fault:
                self._cut_short = True
                return guard.fault._asdict() if guard.fault and not self._cancelled else {"state": "CANCELLED"}
            evidence = witness.evidence()
        # Where the client lost the outcome the result is LOST, even if the engine answers again by now.
        fault = self._fault(failure, evidence._replace(engine_died=lost or evidence.engine_died))
        return (fault._replace(message=failure) if lost and fault.code == "engine" else fault)._asdict()

    def cancel(self) -> None:
        self._cancelled = True
        self._build_client.cancel()

    def drop_old_records(self) -> None:
        """Remove the engine's copies of what this context's folder was called before."""
        if self._copied is not None:
            with suppress(AgentError, OSError):  # the next build of this context tries again
                context_records.settle(self._engine, self._context, self._copied)

    def clean_up(self) -> None:
        """Untag the image of a build that was cut short: an engine in its last step finishes it without the client.

        Poll for the image: the log line of the last step comes late, or never where the client was killed.
        """
        until = time.monotonic() + (_EXPORT_S if self._cut_short else 0.0)
        while time.monotonic() < until:
            with suppress(AgentError):  # an engine that is slow or restarting is asked again
                if images.inspect(self._engine, self._spec.image) is not None:
                    images.untag(self._engine, self._spec.image)
                    return
            time.sleep(_POLL_S)

    def _guard(self, folders: list[str]) -> Guard:
        known = process.read(self._folder)
        watched = Watched(folders, self._folder / results.LOG, known.slot if known else 0)
        return Guard(self._spec.limits, watched, self._build_client.cancel, self._thresholds)

    def _built(self) -> dict[str, Any]:
        image = images.inspect(self._engine, self._spec.image)
        if image is None:
            message = f"the engine reported a build of {self._spec.image}, but does not have it"
            return {"state": "LOST", "code": "engine", "message": message}
        return {
            "state": "BUILT",
            "image_id": image["Id"],
            "os": image["Os"],
            "architecture": image["Architecture"],
            "variant": image.get("Variant") or "",
            "size": image["Size"],
        }

    def _fault(self, failure: str, evidence: Evidence) -> failure_cause.Fault:
        foreign = self._spec.platform.split("/")[1] != self._facts.architecture
        fault = failure_cause.classify_failure(failure, tail(self._folder), evidence, foreign=foreign)
        if fault.code in {"build", "resolve"}:
            # A prune on the host may have removed the base between the first check and the build.
            missing = self._missing_base()
            if missing:
                return failure_cause.Fault("LOST", "base", missing)
        return fault

    def _missing_base(self) -> str:
        names = [base.name for base in self._spec.bases if images.inspect(self._engine, base.name) is None]
        return f"the held base image {names[0]} is no longer there" if names else ""


def _build_client(spec: Spec, folder: Path, log: BinaryIO, engine: EngineSocket, facts: EngineFacts) -> BuildClient:
    if spec.engine == "api":
        return ApiBuild(spec, folder, log, engine.path)
    program = find_cli(spec.engine, os.environ, open_state(os.environ), facts.least, facts.most)
    if program is None:
        needed = "a docker with a buildx that the engine takes" if spec.engine == "buildx" else "a docker older than 23"
        raise AgentError("engine", f"{needed} is no longer on this host")
    return CliBuild(spec, folder, log, program, environment(folder, engine.path, os.environ))
