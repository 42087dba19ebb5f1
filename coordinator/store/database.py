"""The connection to one SQLite file: file mode 0600, schema migrations, transactions.

Calls are short and synchronous: a commit takes a few milliseconds, less than handing it to a thread and back. Commits
are synced to the disk: a state lost in a power failure would leave an action that no record shows.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from coordinator import deadlines
from coordinator.errors import ArchloomError
from coordinator.store import shared_fs, troubles
from coordinator.store.folders import private_folder
from coordinator.store.queries import queries, schema
from coordinator.store.troubles import LOSABLE, explained, foreign, translated

VERSION = 5


class Database:
    """Runs the queries of `queries.sql` by name. Without a path the database is private, in memory.

    `patience_s` is how long to wait for a lock, in seconds. Raises ArchloomError where the file cannot be used. With
    `on_loss`, a file that becomes unwritable raises no error: `on_loss` is called with it once, and a private copy in
    memory replaces the file for the current transaction and all later ones.
    """

    def __init__(self, path: Path | None, patience_s: float, on_loss: Callable[[ArchloomError], None] | None) -> None:
        self._path = path
        # Set at the end: until the schema is complete, there is no store to copy, and an unwritable file is an error.
        self._on_loss: Callable[[ArchloomError], None] | None = None
        self._queries = queries()
        # The queries of the current transaction, to be repeated in memory; None outside of a transaction.
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
        """Read the whole file. Raises UsageError `corrupt` where any part is damaged."""
        with translated(self._path), foreign(self._path):
            result = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise troubles.damaged(self._path, "database disk image is malformed")

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Run the block in a write transaction: commit it at the end, roll it back where the block raises."""
        with translated(self._path), self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Run the block in a read transaction, so that its queries see one state of the store."""
        if self._connection.in_transaction:
            yield
        else:
            with translated(self._path), self._transaction("BEGIN"):
                yield

    def do(self, name: str, **values: object) -> int:
        """Run a query and return the number of changed rows."""
        return self._query(name, values).rowcount

    def all(self, name: str, **values: object) -> list[Any]:
        """Run a query and return its rows, whose columns have no static type."""
        with translated(self._path):
            return self._query(name, values).fetchall()

    def row(self, name: str, **values: object) -> Any:  # noqa: ANN401 - see all
        """Run a query and return its first row. The query must have one."""
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
            # SQLite has already rolled back after some errors, for example a full disk.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._done = None

    def _go_on_in_memory(self, error: sqlite3.Error) -> None:
        """Copy the committed data to memory and repeat the current transaction. Raises `error` where it cannot."""
        trouble = explained(self._path, error)
        if self._on_loss is None or trouble.code not in LOSABLE:
            raise error
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        in_memory = _connected(":memory:", deadlines.STORE_LOCK)
        try:
            self._connection.backup(in_memory)
        except sqlite3.Error:
            in_memory.close()
            raise error from None
        self._connection.close()
        self._connection = in_memory
        if self._done is not None:
            in_memory.execute("BEGIN")
            for name, values in self._done:
                in_memory.execute(self._queries[name], values).fetchall()
        on_loss, self._on_loss = self._on_loss, None
        on_loss(trouble)

    def _prepare(self) -> None:
        # First: a store of a newer archloom must stay unchanged.
        self._check_version()
        self._connection.execute("PRAGMA journal_mode = WAL")
        # Some builds of SQLite sync a WAL only at checkpoints by default.
        self._connection.execute("PRAGMA synchronous = FULL")
        if self._check_version() < VERSION:
            with self._transaction("BEGIN IMMEDIATE"):
                # Read the version again in the transaction: another process may have migrated the store meanwhile.
                for statement in schema(self._check_version(), VERSION):
                    self._connection.execute(statement)
                self._check_tables()
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
        else:
            self._check_tables()

    def _check_tables(self) -> None:
        """Compile all queries. One of them fails on the tables of another program, which have other columns."""
        for query in self._queries.values():
            self._connection.execute(f"EXPLAIN {query}", _Anything())

    def _check_version(self) -> int:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise troubles.from_the_future(self._path, version, VERSION)
        return version


class _Anything(dict[str, object]):
    """Query parameters that are all NULL."""

    def __missing__(self, _: str) -> None:
        return None


def _connected(path: Path | str, patience_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
