"""Builds with a program: buildx, or docker before 23 with BuildKit. The image goes into the engine's own store."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

from agents.base import user_namespace
from agents.base.errors import AgentError
from agents.engine import context_tar
from agents.job import closed_context
from agents.job.closed_context import Access
from agents.job.log_tail import tail
from agents.job.spec import Spec
from agents.job.store import CONTEXT

DOCKERFILE = "Dockerfile"
_CONFIG = "docker"


class CliBuild:
    """One process of `program`. Its output goes to the log; it ends with this process, and when it is cancelled."""

    def __init__(self, spec: Spec, folder: Path, log: BinaryIO, program: str, environ: Mapping[str, str]) -> None:
        self._spec = spec
        self._folder = folder
        self._log = log
        self._program = program
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False
        self._lock = threading.Lock()

    def run(self) -> str:
        """Build the image. Return an empty string, or the program's error message. Raises AgentError `engine`."""
        prepare_folder(self._spec, self._folder)
        # As bytes: the locale of a login may have none for what a build argument holds.
        given = [word.encode("utf-8", "surrogateescape") for word in arguments(self._spec)]
        words = [os.fsencode(self._program), *given, b"--file"]
        access = closed_context.read(self._folder)
        if access is Access.ARCHIVE:
            process = self._start_with_archive(words)
        else:
            # BuildKit's incremental copy is keyed by the path as it is given, or by its last component.
            context = os.path.realpath(self._folder / CONTEXT)
            words += [os.fsencode(self._folder / DOCKERFILE), os.fsencode(context)]
            process = self._start(words, enter=user_namespace.entering() if access is Access.NAMESPACE else None)
        if process is None:
            return "cancelled"
        status = process.wait()
        if status < 0:
            raise AgentError("engine", f"{self._program} was killed by signal {-status}")
        return error_text(tail(self._folder)) or f"{self._program} ended with status {status}" if status else ""

    def _start(
        self, words: Sequence[bytes], *, stdin: int = subprocess.DEVNULL, enter: Callable[[], None] | None = None
    ) -> subprocess.Popen[bytes] | None:
        """Start this program with the job's environment, after `enter` in its process. None where it is cancelled."""
        with self._lock:
            if self._cancelled:
                return None
            try:
                self._process = subprocess.Popen(
                    words,
                    stdin=stdin,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    env=self._environ,
                    cwd=self._folder,
                    bufsize=0,
                    preexec_fn=enter,  # noqa: PLW1509 - it starts no thread and takes no lock
                )
            except OSError as error:
                raise AgentError("engine", f"{self._program} cannot be run: {error.strerror}") from error
            except subprocess.SubprocessError as error:
                raise AgentError("engine", f"{self._program} cannot be run in a user namespace") from error
            return self._process

    def _start_with_archive(self, words: Sequence[bytes]) -> subprocess.Popen[bytes] | None:
        """Start this program, and send it the context, with the Dockerfile, as an archive."""
        context, text = self._folder / CONTEXT, self._spec.dockerfile_bytes
        name = context_tar.place_for(context, self._spec.dockerfile_path, text)
        process = self._start([*words, name.encode("utf-8", "surrogateescape"), b"-"], stdin=subprocess.PIPE)
        if process is None or process.stdin is None:
            return process
        stdin = process.stdin
        try:
            # A program that has ended reads no more; why it has ended is in its log.
            with suppress(BrokenPipeError), stdin:
                context_tar.send(context, text, name, lambda data: _write(stdin, data), self._log)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def cancel(self) -> None:
        """Kill the program: the engine ends the build of a client that is gone; a client sent SIGTERM may linger."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()


def arguments(spec: Spec) -> list[str]:
    """Return the arguments that follow the program's name, without Dockerfile and context."""
    words = ["build", "--progress", "plain", "--platform", spec.platform, "--tag", spec.image]
    if spec.engine == "buildx":
        # The user's default builder may run in a container, which has no access to the engine's images.
        words += ["--builder", "default", "--load"]
    if spec.stage:
        words += ["--target", spec.stage]
    if spec.no_cache:
        words.append("--no-cache")
    for name, value in spec.build_args.items():
        words += ["--build-arg", f"{name}={value}"]
    for name, value in spec.labels.items():
        words += ["--label", f"{name}={value}"]
    return words


def environment(folder: Path, socket: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the program's environment, without the user's docker configuration, credentials or chosen builder."""
    return {
        "PATH": environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": str(folder),
        "DOCKER_HOST": f"unix://{socket}",
        "DOCKER_CONFIG": str(folder / _CONFIG),
        "DOCKER_BUILDKIT": "1",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        # For provenance, which is off, buildx runs git in the context: docker/buildx, build/git.go.
        "BUILDX_GIT_INFO": "0",
    }


def prepare_folder(spec: Spec, folder: Path) -> None:
    """Write the files the program reads beside the context: configuration folder, Dockerfile, ignore file."""
    (folder / _CONFIG).mkdir(mode=0o700, exist_ok=True)
    (folder / DOCKERFILE).write_bytes(spec.dockerfile_bytes)
    # BuildKit reads `<Dockerfile>.dockerignore` in place of the context's ignore file, which was applied before the
    # context was sent: applied again it could only drop files that belong there. An empty file is like none:
    # https://github.com/moby/buildkit/blob/master/frontend/dockerui/config.go, dockerIgnorePatterns.
    (folder / f"{DOCKERFILE}.dockerignore").write_text("# the context is as it was sent\n", encoding="utf-8")


def _write(pipe: IO[bytes], data: bytes) -> None:
    unwritten = memoryview(data)
    while unwritten:
        unwritten = unwritten[pipe.write(unwritten) :]


def error_text(log: str) -> str:
    """Return the last line that begins with `ERROR: ` of a failed program's log, else its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip().strip("-")]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return errors[-1] if errors else lines[-1] if lines else ""
