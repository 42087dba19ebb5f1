"""Delete everything of archloom from this host: jobs, images, folders, lock files, the user's key, the agent itself."""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from agents.base import login, slots, state
from agents.base.errors import AgentError
from agents.base.trees import remove_tree
from agents.engine import engines, images
from agents.engine.engine_api import EngineSocket
from agents.engine.leaked_names import PULLED, PUSHED_DIGEST, name_in_use
from agents.job import store

_AGENT = re.compile(r"archloom-agent-[0-9a-f]+\.pyz(?:\.[A-Za-z0-9._-]+)?\Z|\.archloom-agent-.*")
_MARK = re.compile(r"archloom:[A-Za-z0-9._@-]+\Z")
# The prefix of held names: a registry that can never answer, so only archloom uses it.
_BASES = "localhost:1/"
# Names that archloom gives to built images: `archloom/<run>:<platform>-<attempt>`, and the one it is pushed under.
_BUILT = re.compile(r"archloom/[0-9a-f]+:[a-z0-9._-]+-\d+\Z|127\.0\.0\.1:\d+/push:[0-9a-f]+-[a-z0-9._-]+-\d+\Z")


class Places(NamedTuple):
    """Where files of archloom may lie. `agents` are the folders an agent is put into."""

    states: tuple[Path, ...]
    home: Path
    agents: tuple[Path, ...]
    locks: Path


def find_places(environment: Mapping[str, str]) -> Places:
    """Return the places of this user."""
    home = Path(environment.get("HOME") or login.home())
    cache = environment.get("XDG_CACHE_HOME", "")
    root = Path(cache) if cache.startswith("/") else home / ".cache"
    temporary = [Path(place, f"archloom-{os.getuid()}") for place in ("/var/tmp", "/tmp", "/dev/shm")]  # noqa: S108
    own = Path(sys.argv[0]).resolve().parent if _AGENT.match(Path(sys.argv[0]).name) else root / "archloom"
    agents = tuple(dict.fromkeys((own, root / "archloom", *temporary)))
    return Places(state.folders(environment), home, agents, Path("/run/lock"))


def purge_all(where: Places, mark: str) -> dict[str, Any]:
    """Delete everything. Return `{"jobs", "images", "files", "keys", "kept"}`: what was deleted, what was kept and why.

    The line of `~/.ssh/authorized_keys` that ends with `mark` is deleted last. Raises AgentError or OSError where
    something cannot be deleted; the next call deletes what then remains.
    """
    if not _MARK.match(mark):
        raise AgentError("bad_request", f"mark is {mark!r}, expected {_MARK.pattern}")
    count = sum(map(_forget_jobs, where.states))
    engine = _engine()
    kept = [f"what the engine holds for {count} jobs: the engine is not running"] if count and engine is None else []
    names: list[str] = []
    files: list[str] = []
    if engine is not None:
        engine_id = str(engine.info()["ID"])
        # This user's own jobs have ended by now.
        others = slots.holder_of(where.locks, engine_id) or name_in_use(engine)
        if others:
            kept.append(f"images and lock files that another user's builds may need: {others}")
        else:
            names = _untag(engine)
            files += slots.drop(where.locks, engine_id, where.states)
    for folder in where.states:
        files += _drop_state(folder)
    for folder in where.agents:
        files += _drop_agents(folder)
    return {"jobs": count, "images": names, "files": files, "keys": _drop_key(where.home, mark), "kept": kept}


def _forget_jobs(folder: Path) -> int:
    if not (folder / "jobs").is_dir():
        return 0
    known = store.Jobs(folder)
    names = [str(entry["job"]) for entry in known.entries()]
    for name in names:
        known.forget(name, _discard)
    return len(names)


def _discard(spec: Any) -> None:  # noqa: ANN401 - jobs.Discard's
    # An absent engine holds nothing. Where the engine is down `_engine` raises, or its images would stay forever.
    if _engine() is not None:
        engines.discard(spec)


def _engine() -> EngineSocket | None:
    """Return the engine; None where it is absent or denied. Raises AgentError `engine` where it does not answer."""
    try:
        engine = engines.local_engine()
        engine.version()
    except AgentError as error:
        if error.detail.get("reason") in {"absent", "denied"}:
            return None  # not installed, or not usable by this user, so it holds nothing of ours
        raise
    return engine


def _untag(engine: EngineSocket) -> list[str]:
    """Remove the names archloom gave to bases and built images. Return the names.

    Users may have added names of their own to such an image: these stay, and the image with them.
    """
    removed: list[str] = []
    for image in engine.call("GET", "/images/json") or []:
        names = [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]
        built = any(_BUILT.match(name) for name in names)
        removed += [name for name in names if _is_ours(name, built=built)]
    for name in removed:
        images.untag(engine, name)
    return removed


def _is_ours(name: str, *, built: bool) -> bool:
    if name.startswith(_BASES) or PULLED.match(name) or _BUILT.match(name):
        return True
    return built and PUSHED_DIGEST.match(name) is not None


def _drop_state(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    remove_tree(folder)
    with suppress(OSError):  # not empty where several machines share the home: one folder each
        folder.parent.rmdir()
    return [str(folder)]


def _drop_agents(folder: Path) -> list[str]:
    """Delete every version of the agent in this folder, and the folder where it is then empty. Return the files."""
    try:
        # Any user can create a folder of this name in /tmp: do not touch another user's folder.
        if not stat.S_ISDIR(folder.lstat().st_mode) or folder.stat().st_uid != os.getuid():
            return []
    except FileNotFoundError:
        return []
    files = [path for path in sorted(folder.iterdir()) if _AGENT.match(path.name)]
    for path in files:
        path.unlink()
    with suppress(OSError):
        folder.rmdir()
    return [str(path) for path in files]


def _drop_key(home: Path, mark: str) -> int:
    """Delete lines that end with this mark, but comments. Others stay byte for byte. Return the number deleted."""
    path = Path(os.path.realpath(home / ".ssh" / "authorized_keys"))
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    remaining = [line for line in lines if line.split()[-1:] != [mark.encode()] or line.lstrip().startswith(b"#")]
    if len(remaining) < len(lines):
        fd, partial = tempfile.mkstemp(prefix=".authorized_keys.", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(b"".join(remaining))
                os.fchmod(fd, stat.S_IMODE(path.stat().st_mode))
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink()
            raise
    return len(lines) - len(remaining)
