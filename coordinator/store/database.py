"""The connection to one SQLite file: opened privately, brought up to date, changed in transactions.

Calls are short and synchronous: a commit is a few milliseconds, less than the hop to a thread and back. It is synced
to the disk: a state that the power took away would be an action nobody knows of.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from coordinator.errors import ArchloomError
from coordinator.store import shared_fs, troubles
from coordinator.store.folders import private_folder
from coordinator.store.queries import queries, schema
from coordinator.store.troubles import LOSABLE, explained, foreign, translated

VERSION = 3
PATIENCE_S = 10.0


class Database:
    """Queries of `queries.sql` by name. Without a path it is a private one in memory.

    Raises ArchloomError where the file cannot be used. With `on_loss`, a file that takes no more changes is told to it
    once instead, and a private copy in memory takes its place: the transaction under way is done there, and all others.
    """

    def __init__(self, path: Path | None, patience_s: float, on_loss: Callable[[ArchloomError], None] | None) -> None:
        self._path = path
        # Until there is a whole store to be copied, a file that takes no changes is an error like any other.
        self._on_loss: Callable[[ArchloomError], None] | None = None
        self._queries = queries()
        # The queries of the transaction under way, to be done again in memory; None where there is none.
        self._done: list[tuple[str, dict[str, object]]] | None = None
        with translated(path):
            if path is not None:
                if kind := shared_fs.shared_by_machines(path):
                    raise troubles.shared_by_machines(path, kind)
                private_folder(path.parent)
                path.touch(mode=0o600)
            self._connection = _connected(path or ":memory:", patience_s)
            try:
                with foreign(path):
                    self._prepare()
            except BaseException:
                self._connection.close()
                raise
        self._on_loss = on_loss

    def close(self) -> None:
        self._connection.close()

    def check(self) -> None:
        """Reads the whole file. Raises UsageError `corrupt` where any of it is damaged."""
        with translated(self._path), foreign(self._path):
            said = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise troubles.damaged(self._path, "database disk image is malformed")

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
        return self._query(name, values).rowcount

    def all(self, name: str, **values: object) -> list[Any]:
        """The rows, whose columns have no static type."""
        with translated(self._path):
            return self._query(name, values).fetchall()

    def row(self, name: str, **values: object) -> Any:  # noqa: ANN401 - see all
        """The one row there must be."""
        return self.all(name, **values)[0]

    def _query(self, name: str, values: dict[str, object]) -> sqlite3.Cursor:
        cursor = self._execute(self._queries[name], values)
        if self._done is not None:
            self._done.append((name, values))
        return cursor

    def _execute(self, statement: str, values: dict[str, object]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            self._go_on_in_memory(error)
            return self._connection.execute(statement, values)

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._execute(begin, {})
        self._done = []
        try:
            yield
            self._execute("COMMIT", {})
        except BaseException:
            # A full disk has rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._done = None

    def _go_on_in_memory(self, error: sqlite3.Error) -> None:
        """What is committed is copied, what is under way is done again. Raises `error` where there is no going on."""
        trouble = explained(self._path, error)
        if self._on_loss is None or trouble.code not in LOSABLE:
            raise error
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        spare = _connected(":memory:", PATIENCE_S)
        try:
            self._connection.backup(spare)
        except sqlite3.Error:
            spare.close()
            raise error from None
        self._connection.close()
        self._connection = spare
        if self._done is not None:
            spare.execute("BEGIN")
            for name, values in self._done:
                spare.execute(self._queries[name], values).fetchall()
        tell, self._on_loss = self._on_loss, None
        tell(trouble)

    def _prepare(self) -> None:
        # Before anything else: a store from the future is left as it is.
        self._check_version()
        self._connection.execute("PRAGMA journal_mode = WAL")
        # Some builds of SQLite sync such a journal at checkpoints only.
        self._connection.execute("PRAGMA synchronous = FULL")
        if self._check_version() < VERSION:
            with self._transaction("BEGIN IMMEDIATE"):
                # Asked again: another first start may have been quicker.
                for statement in schema(self._check_version(), VERSION):
                    self._connection.execute(statement)
                self._check_tables()
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
        else:
            self._check_tables()

    def _check_tables(self) -> None:
        """Somebody else's have other columns: then one of our queries does not compile."""
        for query in self._queries.values():
            self._connection.execute(f"EXPLAIN {query}", _Anything())

    def _check_version(self) -> int:
        found: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise troubles.from_the_future(self._path, found, VERSION)
        return found


class _Anything(dict[str, object]):
    """A value for every parameter."""

    def __missing__(self, _: str) -> None:
        return None


def _connected(path: Path | str, patience_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
