"""Digests of files that earlier runs computed, in one SQLite file. Without it every run hashes every file again."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

from coordinator import deadlines

_MAX_ROWS = 200_000
_VERSION = 1
# How often the time of the last use is stored: each time would write the file in runs that change nothing.
_USED_EVERY_S = 86_400
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS digests (
        folder BLOB NOT NULL, name BLOB NOT NULL, stamp TEXT NOT NULL, digest BLOB NOT NULL, used INTEGER NOT NULL,
        PRIMARY KEY (folder, name)
    ) WITHOUT ROWID
"""
_PUT = "INSERT OR REPLACE INTO digests (folder, name, stamp, digest, used) VALUES (?, ?, ?, ?, ?)"
_USE = "UPDATE digests SET used = ? WHERE folder = ? AND name = ?"
_FOLDER = "SELECT name, stamp, digest, used FROM digests WHERE folder = ?"
_TRIM = "DELETE FROM digests WHERE (folder, name) IN (SELECT folder, name FROM digests ORDER BY used LIMIT ?)"

# A file's stamp, digest and last use, by name.
_Rows = dict[bytes, tuple[str, bytes, int]]


class DigestCache:
    """A cache that several processes may use at once. Whatever is wrong with its file: then nothing is cached.

    `stamp` is a text that differs whenever the file may have changed. Beyond `max_rows` files, those that were used
    longest ago are deleted.
    """

    def __init__(self, path: Path | None, max_rows: int = _MAX_ROWS) -> None:
        self._path = path
        self._max_rows = max_rows
        self._now = int(time.time())
        self._connection: sqlite3.Connection | None = None
        self._folders: dict[bytes, _Rows] = {}
        self._new: list[tuple[bytes, bytes, str, bytes, int]] = []
        self._used: list[tuple[int, bytes, bytes]] = []
        self._lock = threading.Lock()

    def get(self, folder: bytes, name: bytes, stamp: str) -> str | None:
        """Return the digest (64 hex digits) of the file where its stamp is the stored one."""
        with self._lock:
            rows = self._folders.get(folder)
            if rows is None:
                rows = self._folders[folder] = self._load(folder)
            found = rows.get(name)
            if found is None or found[0] != stamp:
                return None
            if self._now - found[2] > _USED_EVERY_S:
                self._used.append((self._now, folder, name))
            return found[1].hex()

    def put(self, folder: bytes, name: bytes, stamp: str, digest: str) -> None:
        """Store a digest; it is written by `save`."""
        with self._lock:
            self._new.append((folder, name, stamp, bytes.fromhex(digest), self._now))

    def save(self) -> None:
        """Write what is new. Where that fails, the next run hashes those files again."""
        with self._lock:
            new, used = self._new, self._used
            self._new, self._used = [], []
            if not (new or used):
                return
            with suppress(sqlite3.Error, OSError):
                connection = self._opened()
                if connection is not None:
                    with connection:
                        connection.executemany(_PUT, new)
                        connection.executemany(_USE, used)
                        self._trim(connection)

    def close(self) -> None:
        """Close the file. What `save` has not written is lost."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._path = None

    def _load(self, folder: bytes) -> _Rows:
        try:
            connection = self._opened()
            if connection is None:
                return {}
            return {name: (stamp, digest, used) for name, stamp, digest, used in connection.execute(_FOLDER, [folder])}
        except (sqlite3.Error, OSError) as error:
            self._abandon(error)
            return {}

    def _opened(self) -> sqlite3.Connection | None:
        if self._connection is None and self._path is not None:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._connection = sqlite3.connect(self._path, timeout=deadlines.DIGEST_LOCK, check_same_thread=False)
                (version,) = self._connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    with self._connection:
                        self._connection.execute(_SCHEMA)
                        self._connection.execute(f"PRAGMA user_version = {_VERSION}")
                elif version != _VERSION:
                    self._abandon(None)
            except (sqlite3.Error, OSError) as error:
                self._abandon(error)
        return self._connection

    def _abandon(self, error: Exception | None) -> None:
        """Use the file no more, and delete it where it is damaged, so that the next run begins a new one."""
        # OperationalError and the other subclasses mean locked, full, read-only: such a file is sound.
        if type(error) is sqlite3.DatabaseError and self._path is not None:
            with suppress(OSError):
                self._path.unlink()
        if self._connection is not None:
            self._connection.close()
        self._connection = self._path = None

    def _trim(self, connection: sqlite3.Connection) -> None:
        (count,) = connection.execute("SELECT count(*) FROM digests").fetchone()
        if count > self._max_rows:
            # By number, not by time: all rows of a run have the same.
            connection.execute(_TRIM, [count - self._max_rows])
