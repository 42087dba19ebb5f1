"""A coordinator that may say anything, for the agent's side of a transfer; in memory, one question at a time."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.context.cache import Objects
from agents.context.transfer import Received, transfer

MTIME = 1700000000123456789


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Scripted:
    """Folders and contents by digest, and the stream that the agent reads them from.

    `limit` is the byte after which the stream ends; `packed` is how folders and files are written.
    """

    def __init__(self, *, limit: int | None = None, packed: bool = True) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[dict[str, Any]] = []
        self.sent = 0
        self._limit = limit
        self._packed = packed
        self._waiting = io.BytesIO()
        self._digests: list[str] = []

    def content(self, data: bytes) -> str:
        self.objects[sha(data)] = data
        return sha(data)

    def folder(self, *entries: list[object], **other: object) -> str:
        return self.content(json.dumps(other or {"entries": entries}).encode())

    def file(self, name: object, data: bytes = b"x", mode: object = 0o644, mtime: object = MTIME) -> list[object]:
        return ["file", name, mode, mtime, len(data), self.content(data)]

    def below(self, name: object, *entries: list[object], mode: object = 0o755) -> list[object]:
        return ["folder", name, mode, MTIME, self.folder(*entries)]

    def offer(self, root: object, entries: object) -> None:
        self._write(json.dumps({"root": root, "entries": entries, "bytes": 0}).encode() + b"\n")

    def say(self, said: Mapping[str, Any]) -> None:
        """What the agent says: a question is answered after its last line."""
        self.asked.append(dict(said))
        self._digests += said["digests"]
        if not said["more"]:
            for digest in self._digests:
                self._write(self.body(self.objects[digest]))
            self._digests.clear()

    def body(self, data: bytes) -> bytes:
        if self._packed:
            data = zlib.compress(data)
        step = 1 << 20
        chunks = [data[start : start + step] for start in range(0, len(data), step)]
        framed = b"".join(b"%x\n%b" % (len(chunk), chunk) for chunk in chunks)
        return (b"z" if self._packed else b"=") + framed + b"0\n"

    def read(self, size: int = -1) -> bytes:
        return self._waiting.read(size)

    def readline(self, size: int = -1) -> bytes:
        return self._waiting.readline(size)

    def _write(self, data: bytes) -> None:
        if self._limit is not None:
            data = data[: max(0, self._limit - self.sent)]
        self.sent += len(data)
        self._waiting = io.BytesIO(self._waiting.read() + data)


def arrive(coordinator: Scripted, root: str, entries: int, state: Path, tree: Path) -> Received:
    """The offered context, in `tree`."""
    tree.mkdir()
    coordinator.offer(root, entries)
    objects = Objects(state)
    try:
        return transfer(coordinator, coordinator.say, objects, tree)
    finally:
        objects.close()


def seen(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below, by path: kind, mode, time, content or target."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        if path.is_symlink():
            what: tuple[object, ...] = ("link", 0o777, stat.st_mtime_ns, str(path.readlink()))
        elif path.is_dir():
            what = ("folder", stat.st_mode & 0o7777, stat.st_mtime_ns, "")
        else:
            what = ("file", stat.st_mode & 0o7777, stat.st_mtime_ns, path.read_bytes())
        found[str(path.relative_to(root))] = what
    return found
