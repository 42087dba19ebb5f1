"""The real agent as a real process, with a scripted driver in place of an engine.

The script is the `dockerfile` of the spec: JSON, a list of steps `[word, argument]`.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from agents.base.errors import AgentError
from agents.job.engine_facts import EngineFacts
from agents.job.spec import Spec
from agents.server import cli
from agents.server.control import Operations


class ScriptedBuild:
    def __init__(self, spec: Spec, _folder: Path, log: BinaryIO) -> None:
        self._steps: list[list[Any]] = json.loads(spec.dockerfile)
        self._file = log
        self._stubborn = False
        self._cancelled = threading.Event()
        self._to_clean_up: Path | None = None

    def run(self) -> dict[str, Any]:
        for word, argument in self._steps:
            result = getattr(self, f"_{word}")(argument)
            if result is not None:
                return result
        return {
            "state": "BUILT",
            "image_id": "sha256:1",
            "os": "linux",
            "architecture": "arm",
            "variant": "v7",
            "size": 7,
        }

    def cancel(self) -> None:
        if not self._stubborn:
            self._cancelled.set()

    def drop_old_records(self) -> None:
        pass

    def clean_up(self) -> None:
        if self._to_clean_up is not None:
            signal.alarm(60)  # nobody else ends it where the test fails before it opens the other end
            self._to_clean_up.write_text("cleaned up")

    def _be_slow_to_clean_up(self, fifo: str) -> None:
        """The clean-up lasts until the test opens the other end, and says there that it was done."""
        self._to_clean_up = Path(fifo)

    def _log(self, text: str) -> None:
        self._file.write(text.encode())

    def _flood(self, lines: int) -> None:
        for _ in range(lines):
            self._file.write(b"x" * 65535 + b"\n")

    def _reach(self, fifo: str) -> None:
        """Returns when the test opens the other end."""
        Path(fifo).open("w").close()

    def _spawn(self, note: str) -> None:
        """Leaves a child behind, and says its pid."""
        Path(note).write_text(str(subprocess.Popen(["sleep", "600"]).pid))

    def _be_stubborn(self, _: object) -> None:
        self._stubborn = True

    def _wait(self, _: object) -> dict[str, Any]:
        self._cancelled.wait()
        return self._fail("the engine's program was ended")

    def _fill(self, _: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def _break(self, message: str) -> None:
        raise ZeroDivisionError(message)

    def _refuse(self, code: str) -> None:
        raise AgentError(code, "the engine said no")

    def _fail(self, message: str) -> dict[str, Any]:
        return {"state": "FAILED", "code": "build", "message": message}


def observe() -> dict[str, Any]:
    print("chatter that is no frame")
    os.system("echo chatter of a child")
    return {"cores": 4}


def pull(spec, port, secret, progress, cancelled) -> dict[str, Any]:
    progress(f"pulling {len(spec.bases)} through {port}")
    if secret == "hang":
        cancelled.wait()
        raise AgentError("engine", "the pull was cancelled")
    return {"pulled": len(spec.bases), "kept": 0}


def push(spec, port, repository, tag, secret, progress, cancelled) -> dict[str, Any]:
    progress(1, 2)
    if secret == "wrong":
        raise AgentError("refused", "the registry said no")
    return {"digest": f"sha256:{repository}:{tag}", "size": 2}


def lacking(spec: Spec) -> list[str]:
    return [base.name for base in spec.bases]


def save(spec: Spec, begin: Callable[[dict[str, Any]], None], emit: Callable[[bytes], None]) -> int:
    """The script's steps: `say` a piece, or what a build's step does."""
    build = ScriptedBuild(spec, Path(), io.BytesIO())
    for number, (word, argument) in enumerate(json.loads(spec.dockerfile)):
        if word == "say":
            if not number:
                begin({"image_id": "sha256:1", "size": 7})
            emit(argument.encode())
        elif word == "say_for_ever":
            begin({"image_id": "sha256:1", "size": 7})
            while True:
                emit(b"x" * 700_000)
        else:
            getattr(build, f"_{word}")(argument)
    return 7


def load(spec: Spec, pieces: Iterable[bytes]) -> dict[str, Any]:
    came = b"".join(pieces)
    if came == b"refuse":
        raise AgentError("base", "the engine said no", base=spec.bases[0].name)
    if came.startswith(b"forget "):
        shutil.rmtree(came.decode().partition(" ")[2])
    return {"loaded": len(came), "kept": 0}


def discard(spec: Spec) -> None:
    with Path(os.environ["STAND_IN_DISCARDED"]).open("a") as file:
        file.write(json.dumps([spec.image, *(base.name for base in spec.bases)]) + "\n")


if __name__ == "__main__":
    parts = Operations(
        observe=observe,
        engine=lambda: EngineFacts("ENGINE:1", "arm", "1.12", "1.41", ("/",)),
        pull=pull,
        push=push,
        discard=discard,
        lacking=lacking,
        save=save,
        load=load,
        prune=lambda budget: budget // 2,
        job_command=(sys.executable, __file__, "job"),
        ping_engine=lambda: None,
        remove_leaked=lambda: None,
        shared_slots=Path(os.environ["STAND_IN_SLOTS"]),
    )
    sys.exit(cli.run(sys.argv[1:], lambda: parts, ScriptedBuild))
