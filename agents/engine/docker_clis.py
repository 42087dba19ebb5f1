"""Finds the docker command lines of this host, and those that can build with BuildKit."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Optional

from agents.engine.known_clis import Answer, KnownClis

# A command over SSH does not get the PATH of a login shell.
_DEFAULT_FOLDERS = ("/usr/local/bin", "/usr/bin", "/usr/libexec", "/snap/bin")
_CLI_TIMEOUT_S = 30.0
_VERSION = re.compile(r"Docker version (\d+)\.(\d+)[^,\s]*")
# Since 23.0 `docker build` runs buildx, or the legacy builder without a buildx; before 18.09 docker has no BuildKit.
_BUILDKIT_SINCE, _BUILDX_SINCE = (18, 9), (23, 0)
_PLUGIN = '{{range .ClientInfo.Plugins}}{{if eq .Name "buildx"}}{{.Path}}\t{{.Version}}{{end}}{{end}}'

_Number = tuple[int, ...]
# (version, oldest, newest): the engine APIs that a buildx before this version supports, () for no limit. 1.44, which
# Docker 29 requires, came with https://github.com/docker/buildx/pull/2198; only 0.31 itself requires 1.44 of the engine
# (docker/buildx/issues/3654).
_BUILDX_API: tuple[tuple[_Number, _Number, _Number], ...] = (
    ((0, 11), (), (1, 42)),
    ((0, 13), (), (1, 43)),
    ((0, 31), (), ()),
    ((0, 32), (1, 44), ()),
)

# Returns None where the program did not answer.
_AskPlugin = Callable[[str, Mapping[str, str]], Optional[tuple[str, str]]]


class Cli(NamedTuple):
    """A docker command line. `plugin` is the path of its buildx, `buildx` the version of it; empty without a buildx."""

    path: str
    version: str
    plugin: str
    buildx: str

    def fits(self, least: str, most: str) -> bool:
        """Return whether its buildx supports an engine API from version `least` to `most`.

        A version that is unknown or cannot be parsed excludes nothing.
        """
        own = _number(self.buildx)
        oldest, newest = next(((old, new) for before, old, new in _BUILDX_API if own and own < before), ((), ()))
        too_old = newest and _number(least) and newest < _number(least)
        too_new = oldest and _number(most) and _number(most) < oldest
        return not too_old and not too_new


def installed(environ: Mapping[str, str], state: Path) -> list[Cli]:
    """Return every docker command line on the PATH, then in the default folders. Makes no request to the engine.

    A program that answered before is not asked again until its files change, except for a buildx that it did not have;
    the answers are in the folder `state`.
    """
    return list(_found(environ, state, _plugin))


def find_cli(kind: str, environ: Mapping[str, str], state: Path, least: str, most: str) -> str | None:
    """Return the path of the program for `buildx` (the plugin, run without docker) or `docker`; None without one.

    `least` and `most` are the oldest and the newest API version that the engine accepts; `state` as for `installed`.
    """
    # `docker build` before 23.0 needs no buildx, so skip `docker info`: to list the plugins docker runs each of them.
    return choose(kind, _found(environ, state, _not_asked if kind == "docker" else _plugin), least, most)


def choose(kind: str, clis: Iterable[Cli], least: str = "", most: str = "") -> str | None:
    """Return the path of the first program that can build on this engine, as `find_cli` does."""
    if kind == "buildx":
        return next((cli.plugin for cli in clis if cli.plugin and cli.fits(least, most)), None)
    return next((cli.path for cli in clis if _BUILDKIT_SINCE <= _number(cli.version) < _BUILDX_SINCE), None)


def _found(environ: Mapping[str, str], state: Path, plugin: _AskPlugin) -> Iterator[Cli]:
    # Lazy: on a small board each program takes a while to print its version.
    known = KnownClis(state, environ)
    clis = (_describe(path, environ, plugin, known) for path in _paths(environ))
    return (cli for cli in clis if cli is not None)


def _number(version: str) -> _Number:
    """Return (major, minor); () where the text has no version."""
    match = re.search(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else ()


def _paths(environ: Mapping[str, str]) -> Iterator[str]:
    seen = set()
    for folder in (*environ.get("PATH", "").split(":"), *_DEFAULT_FOLDERS):
        path = Path(folder, "docker")
        # The same program may have two paths: on most systems /bin is a link to /usr/bin.
        real = os.path.realpath(path)
        if folder.startswith("/") and real not in seen and os.access(path, os.X_OK) and path.is_file():
            seen.add(real)
            yield str(path)


def _describe(path: str, environ: Mapping[str, str], plugin: _AskPlugin, known: KnownClis) -> Cli | None:
    answer = known.answer(path)
    if answer is None:
        # podman's `docker` command prints another text for --version.
        version = _VERSION.search(_ask(path, environ, "--version"))
        if version is None:
            return None
        answer = Answer(version[0].split()[-1], "", "")
        known.keep(path, answer)
    # That there is no buildx is not kept: one may come in ways that change none of the files.
    found = None if answer.plugin else plugin(path, environ)
    if found is not None and found[0]:
        answer = Answer(answer.version, *found)
        known.keep(path, answer)
    return Cli(path, *answer)


def _plugin(path: str, environ: Mapping[str, str]) -> Optional[tuple[str, str]]:  # noqa: UP045 - Python 3.9
    """Return path and version of its buildx; both empty without one, None where it printed nothing at all."""
    answer = _ask(path, environ, "info", "--format", _PLUGIN)
    if not answer:
        return None
    plugin, _, buildx = answer.strip().partition("\t")
    # docker also lists a plugin it cannot run, such as a broken link, but without a version.
    return plugin if buildx.strip() else "", buildx.strip()


def _not_asked(_path: str, _environ: Mapping[str, str]) -> None:
    return None


def _ask(path: str, environ: Mapping[str, str], *arguments: str) -> str:
    # Keep the user's docker configuration, which locates plugins; avoid the engine, which may hang.
    environment = {**environ, "DOCKER_HOST": "unix:///dev/null/none"}
    environment.pop("DOCKER_CONTEXT", None)
    try:
        answer = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=_CLI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace")
