"""Which docker command lines are here, and which of them can build with BuildKit."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# A login shell's PATH is not what a command over SSH gets.
_USUAL = ("/usr/local/bin", "/usr/bin", "/usr/libexec", "/snap/bin")
_PATIENCE = 30.0
_VERSION = re.compile(r"Docker version (\d+)\.(\d+)[^,\s]*")
# From 23 on `docker build` is buildx, or the legacy builder where there is none; before 18.09 there is no BuildKit.
_BUILDKIT_SINCE, _BUILDX_SINCE = (18, 9), (23, 0)
_PLUGIN = '{{range .ClientInfo.Plugins}}{{if eq .Name "buildx"}}{{.Path}}\t{{.Version}}{{end}}{{end}}'

_Number = tuple[int, ...]
# A buildx before this version: the oldest and the newest engine API that it speaks, () for any. 1.44, which Docker 29
# wants, came with https://github.com/docker/buildx/pull/2198; 0.31 alone wants as much (docker/buildx/issues/3654).
_BUILDX_API: tuple[tuple[_Number, _Number, _Number], ...] = (
    ((0, 11), (), (1, 42)),
    ((0, 13), (), (1, 43)),
    ((0, 31), (), ()),
    ((0, 32), (1, 44), ()),
)

_AskPlugin = Callable[[str, Mapping[str, str]], tuple[str, str]]


class Cli(NamedTuple):
    """A docker command line. `plugin` is the path of its buildx, `buildx` that one's version; empty without one."""

    path: str
    version: str
    plugin: str
    buildx: str

    def fits(self, least: str, most: str) -> bool:
        """Whether its buildx speaks an engine API of these two versions or between.

        A version that is not said, or not understood, is no hindrance.
        """
        own = _number(self.buildx)
        oldest, newest = next(((old, new) for before, old, new in _BUILDX_API if own and own < before), ((), ()))
        too_old = newest and _number(least) and newest < _number(least)
        too_new = oldest and _number(most) and _number(most) < oldest
        return not too_old and not too_new


def installed(environ: Mapping[str, str]) -> list[Cli]:
    """Every docker command line on the PATH and in the usual places, in that order. No engine is asked."""
    return list(_found(environ, _plugin))


def find_cli(kind: str, environ: Mapping[str, str], least: str, most: str) -> str | None:
    """The program that builds by `buildx` (the plugin, which runs on its own) or `docker`; None without one.

    `least` and `most` are the API versions that the engine takes.
    """
    # A docker that is to build by itself is not asked for its plugins.
    return choose(kind, _found(environ, _no_plugin if kind == "docker" else _plugin), least, most)


def choose(kind: str, clis: Iterable[Cli], least: str = "", most: str = "") -> str | None:
    """The first of these that can build on this engine, as `find_cli` gives it."""
    if kind == "buildx":
        return next((cli.plugin for cli in clis if cli.plugin and cli.fits(least, most)), None)
    return next((cli.path for cli in clis if _BUILDKIT_SINCE <= _number(cli.version) < _BUILDX_SINCE), None)


def _found(environ: Mapping[str, str], plugin: _AskPlugin) -> Iterator[Cli]:
    # One by one: on a small board each of them takes a while to say what it is.
    found = (_describe(path, environ, plugin) for path in _paths(environ))
    return (cli for cli in found if cli is not None)


def _number(version: str) -> _Number:
    """Major and minor; () where there is none to be seen."""
    found = re.search(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else ()


def _paths(environ: Mapping[str, str]) -> Iterator[str]:
    seen = set()
    for folder in (*environ.get("PATH", "").split(":"), *_USUAL):
        path = Path(folder, "docker")
        # /bin is /usr/bin on most systems, and one name more for the same program elsewhere.
        real = os.path.realpath(path)
        if folder.startswith("/") and real not in seen and os.access(path, os.X_OK) and path.is_file():
            seen.add(real)
            yield str(path)


def _describe(path: str, environ: Mapping[str, str], plugin: _AskPlugin) -> Cli | None:
    # podman's program of this name says something else here.
    version = _VERSION.search(_ask(path, environ, "--version"))
    return Cli(path, version[0].split()[-1], *plugin(path, environ)) if version is not None else None


def _plugin(path: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Path and version of its buildx; both empty without one."""
    plugin, _, buildx = _ask(path, environ, "info", "--format", _PLUGIN).strip().partition("\t")
    # A plugin that cannot be run, such as a link to nowhere, is listed too, without a version.
    return plugin if buildx.strip() else "", buildx.strip()


def _no_plugin(_path: str, _environ: Mapping[str, str]) -> tuple[str, str]:
    return "", ""


def _ask(path: str, environ: Mapping[str, str], *arguments: str) -> str:
    # The user's own configuration says where plugins are; the engine has no part in it, and may hang.
    environment = {**environ, "DOCKER_HOST": "unix:///dev/null/none"}
    environment.pop("DOCKER_CONTEXT", None)
    try:
        answer = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace")
