"""The connection to one SQLite file: opened privately, brought up to date, changed in transactions.

Calls are short and synchronous: a commit is a few milliseconds, less than the hop to a thread and back. It is synced
to the disk: a state that the power took away would be an action nobody knows of.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coordinator.store.queries import queries, schema
from coordinator.store.troubles import from_the_future, translated

VERSION = 3
_BUSY_TIMEOUT_S = 10.0


class Database:
    """Queries of `queries.sql` by name. Without a path it is a private one in memory.

    Everything raises ArchloomError where the file cannot be used; `troubles` says which.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._queries = queries()
        with translated(path):
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
            self._connection = sqlite3.connect(path or ":memory:", timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """One transaction, committed when the block ends well, undone when it raises."""
        with translated(self._path), self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """The block's queries see one moment of the store."""
        if self._connection.in_transaction:
            yield
        else:
            with translated(self._path), self._transaction("BEGIN"):
                yield

    def do(self, name: str, **values: object) -> int:
        """How many rows were changed."""
        with translated(self._path):
            return self._connection.execute(self._queries[name], values).rowcount

    def all(self, name: str, **values: object) -> list[Any]:
        """The rows, whose columns have no static type."""
        with translated(self._path):
            return self._connection.execute(self._queries[name], values).fetchall()

    def row(self, name: str, **values: object) -> Any:  # noqa: ANN401 - see all
        """The one row there must be."""
        return self.all(name, **values)[0]

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _prepare(self) -> None:
        # Before anything else: a store from the future is left as it is.
        self._check_version()
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA journal_mode = WAL")
        if self._check_version() < VERSION:
            with self._transaction("BEGIN IMMEDIATE"):
                # Asked again: another first start may have been quicker.
                for statement in schema(self._check_version(), VERSION):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _check_version(self) -> int:
        found: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise from_the_future(self._path, found, VERSION)
        return found
