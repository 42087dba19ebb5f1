"""Everything of archloom off this host: jobs, what the engine holds, folders, lock files, the user's key, itself."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from agents.base import slots, state
from agents.base.errors import AgentError
from agents.engine import engines, images
from agents.engine.engine_api import EngineSocket
from agents.job import store

_AGENT = re.compile(r"archloom-agent-[0-9a-f]+\.pyz(?:\.[A-Za-z0-9._-]+)?\Z|\.archloom-agent-.*")
_MARK = re.compile(r"archloom:[A-Za-z0-9._@-]+\Z")
# What builds are labelled with, and the names that nobody else gives: a registry that can never answer.
_LABEL = "archloom.build-id"
_BASES = "localhost:1/"
# An image of ours may also have its owner's names, in a registry on this very board.
_BUILT = re.compile(r"archloom/|127\.0\.0\.1:\d+/push[:@]")
# What a base is pulled as before it has its held name, and keeps where the pull or the agent is killed just then.
_PULLED = re.compile(r"127\.0\.0\.1:\d+/[a-z0-9]+base\d+@sha256:")


class Places(NamedTuple):
    """Where things of ours may lie. `agents` are the folders an agent is put into."""

    states: tuple[Path, ...]
    home: Path
    agents: tuple[Path, ...]
    locks: Path


def find_places(environment: Mapping[str, str]) -> Places:
    """Those of this user."""
    home = Path(environment.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - needs no HOME
    cache = environment.get("XDG_CACHE_HOME", "")
    root = Path(cache) if cache.startswith("/") else home / ".cache"
    temporary = [Path(place, f"archloom-{os.getuid()}") for place in ("/var/tmp", "/tmp", "/dev/shm")]  # noqa: S108
    own = Path(sys.argv[0]).resolve().parent if _AGENT.match(Path(sys.argv[0]).name) else root / "archloom"
    agents = tuple(dict.fromkeys((own, root / "archloom", *temporary)))
    return Places(state.folders(environment), home, agents, Path("/run/lock"))


def purge_all(where: Places, mark: str) -> dict[str, Any]:
    """`{"jobs", "images", "files", "keys", "kept"}`: what was deleted, and what was left with the reason.

    The line of `~/.ssh/authorized_keys` that ends with `mark` goes last, once all else is gone. Raises AgentError
    or OSError where something cannot be deleted; what is left then is deleted by the next call.
    """
    if not _MARK.match(mark):
        raise AgentError("bad_request", f"mark is {mark!r}, expected {_MARK.pattern}")
    count = sum(map(_forget_jobs, where.states))
    engine = _engine()
    kept = [f"what the engine holds for {count} jobs: it does not run"] if count and engine is None else []
    names: list[str] = []
    files: list[str] = []
    if engine is not None:
        engine_id = str(engine.info()["ID"])
        others = _others_build(where.locks, engine_id)
        if others:
            kept.append(f"images and lock files that another user's builds may need: {others}")
        else:
            names = _untag(engine)
            files += _drop_locks(where.locks, engine_id)
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
    # An engine that is gone holds nothing; one that is down would keep what it holds for ever.
    if _engine() is not None:
        engines.discard(spec)


def _engine() -> EngineSocket | None:
    """The engine, where there is one. Raises AgentError `engine` where it does not answer."""
    try:
        engine = engines.local_engine()
        engine.version()
    except AgentError as error:
        if error.detail.get("reason") in {"absent", "denied"}:
            return None  # never there, or never ours to use
        raise
    return engine


def _untag(engine: EngineSocket) -> list[str]:
    """Take away the names we gave: held bases, and names of images that carry our label."""
    found: list[str] = []
    for image in engine.call("GET", "/images/json") or []:
        ours = _LABEL in (image.get("Labels") or {})
        names = [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]
        found += [name for name in names if _is_base(name) or (ours and _BUILT.match(name))]
    for name in found:
        images.untag(engine, name)
    return found


def _is_base(name: str) -> bool:
    return name.startswith(_BASES) or _PULLED.match(name) is not None


def _others_build(locks: Path, engine_id: str) -> str:
    """The slot that somebody holds now; empty where nobody does. Our own jobs are over by now."""
    for path in _slots(locks, engine_id):
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return str(path)
            finally:
                os.close(fd)
    return ""


def _drop_locks(locks: Path, engine_id: str) -> list[str]:
    """The lock files of this user, and their folder where nothing else is in it."""
    for path in _slots(locks, engine_id):
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                path.unlink()
    folder = locks / slots.folder_name(engine_id)
    with suppress(OSError):  # another user's, or with their lock files in it
        folder.rmdir()
        return [str(folder)]
    return []


def _slots(locks: Path, engine_id: str) -> list[Path]:
    folder = locks / slots.folder_name(engine_id)
    return [] if folder.is_symlink() else sorted(folder.glob("slot-*"))


def _drop_state(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    store.remove_tree(folder)
    with suppress(OSError):  # a home that several machines share has one folder for each
        folder.parent.rmdir()
    return [str(folder)]


def _drop_agents(folder: Path) -> list[str]:
    """Every version of the agent in this folder, and the folder where it is empty then."""
    try:
        # Anybody can make a folder of this name in /tmp: what is another user's is not followed.
        if not stat.S_ISDIR(folder.lstat().st_mode) or folder.stat().st_uid != os.getuid():
            return []
    except FileNotFoundError:
        return []
    found = [path for path in sorted(folder.iterdir()) if _AGENT.match(path.name)]
    for path in found:
        path.unlink()
    with suppress(OSError):
        folder.rmdir()
    return [str(path) for path in found]


def _drop_key(home: Path, mark: str) -> int:
    """How many lines ended with this mark; all others stay byte for byte."""
    path = Path(os.path.realpath(home / ".ssh" / "authorized_keys"))
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    kept = [line for line in lines if line.split()[-1:] != [mark.encode()] or line.lstrip().startswith(b"#")]
    if len(kept) < len(lines):
        fd, partial = tempfile.mkstemp(prefix=".authorized_keys.", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(b"".join(kept))
                os.fchmod(fd, stat.S_IMODE(path.stat().st_mode))
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink()
            raise
    return len(lines) - len(kept)
