"""The database of the store: its transactions and migrations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.store.background_upgrade import BackgroundUpgrade
from kedro_flask_server.store.prepared import Statement, driver_of
from kedro_flask_server.store.schema import now_ms
from kedro_flask_server.store.schema_versions import upgrade_one_step
from kedro_flask_server.store.sqlite import SQLite
from kedro_flask_server.store.unavailable import unavailable_on_failure
from kedro_flask_server.store.url import libpq_options, without_secrets

if TYPE_CHECKING:
    from kedro_flask_server.store.postgresql import PostgreSQL

# How long opening waits for a migration of PostgreSQL; an empty database takes a fraction of that.
_UPGRADE_S = 2.5

# Per statement: older versions of SQLite accept 999 parameters.
_MAX_ROWS = 150

_EMPTY_EVERY_S = 20.0

# "KeFlSv" in ASCII: PostgreSQL's advisory locks are numbers by convention.
_MIGRATION_LOCK = 0x4B65466C5376

# PostgreSQL's code for a lock that was not available within the time allowed.
_LOCKED = "55P03"


class Database:
    """The database of the store: SQLite or PostgreSQL."""

    def __init__(self, url: URL, *, empty_log_every_s: float = _EMPTY_EVERY_S) -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: The result of `locate`.
            empty_log_every_s: How often SQLite's write-ahead log is emptied after writes.
        """
        self._url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._sqlite: SQLite | None = None
        self._postgresql: PostgreSQL | None = None
        self._connections: SQLite | PostgreSQL
        if self.is_sqlite:
            self._connections = self._sqlite = SQLite(url, empty_log_every_s=empty_log_every_s)
        else:
            self._connections = self._postgresql = _postgresql(url)
        self._upgrade = BackgroundUpgrade(self._bring_up_to_date)
        self._is_open = False

    @property
    def shown(self) -> str:
        """The address without secrets."""
        return without_secrets(self._url)

    @property
    def generation(self) -> int:
        """How often the file was replaced; 0 with PostgreSQL."""
        return 0 if self._sqlite is None else self._sqlite.generation

    def open(self) -> None:
        """Create the tables, or migrate them; does nothing if that is done.

        An SQLite file that was deleted or replaced meanwhile is opened again, or created.

        Raises:
            ServerSettingsError: If the database cannot be used at all: its folder is on a network
                file system or cannot be written, or its schema is too new for this program.
            StoreUnavailableError: If it cannot be reached now.
        """
        if self._sqlite is None:
            if not self._is_open:  # it may take minutes; until then, callers get an error
                self._upgrade.wait(_UPGRADE_S)
                self._is_open = True
            return
        if self._is_open:
            if not self._sqlite.is_replaced():
                return
            self._sqlite.drop_replaced_file()
            self._is_open = False
        self._sqlite.prepare()
        self._bring_up_to_date()
        self._is_open = True

    def _bring_up_to_date(self) -> None:
        while self._upgrade_one_step():
            pass

    def _upgrade_one_step(self) -> bool:
        with self._migrating() as connection:
            return upgrade_one_step(connection, self.shown)

    @contextmanager
    def _migrating(self) -> Iterator[Connection]:
        """Return a connection, in a transaction, for a migration."""
        if self._postgresql is None:
            with self.writing() as connection:
                yield connection
            return
        with unavailable_on_failure(), self._postgresql.migrating() as connection:
            try:
                self.lock(connection, _MIGRATION_LOCK)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCKED:
                    raise
                reason = "another server is bringing its schema up to date"
                raise StoreUnavailableError(reason) from error
            yield connection

    def reading(self) -> AbstractContextManager[Connection]:
        """Return a connection, in a transaction, for reading.

        Raises:
            StoreUnavailableError: If the database cannot be reached.
        """
        return self._connections.reading()

    def writing(self) -> AbstractContextManager[Connection]:
        """Return a connection, in a transaction, for writing; it is committed at the end.

        Raises:
            StoreUnavailableError: If the database cannot be reached or written.
            sqlalchemy.exc.IntegrityError: If a row exists already.
        """
        return self._connections.writing()

    def transact(
        self, statement: Statement, values: Mapping[str, Any], *, locks: Sequence[int] = ()
    ) -> list[tuple[Any, ...]]:
        """Execute a PostgreSQL statement as a transaction, in one round trip.

        Args:
            statement: The statement.
            values: Its values, by their names.
            locks: Advisory locks, numbers of 64 bits, to acquire before: the statement sees what
                earlier transactions with them have committed.

        Returns:
            Its rows.

        Raises:
            StoreUnavailableError: If the database cannot be reached or written.
            sqlalchemy.exc.IntegrityError: If a row exists already.
        """
        assert self._postgresql is not None  # noqa: S101  only for PostgreSQL
        with unavailable_on_failure():
            return self._postgresql.transact(statement, values, locks=locks)

    def insert(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
        *,
        or_ignore: bool = False,
        updates_by: str = "",
    ) -> None:
        """Insert rows in one statement.

        A statement per row is slow with both: PostgreSQL's driver waits for each response, and
        SQLite's releases the GIL at each, to threads that compute. And SQLAlchemy takes longer to
        compile such a statement than the database to execute it.

        Args:
            connection: The result of `writing`.
            table: The table.
            columns: The names of the columns of the values.
            rows: For each row, the values of these columns.
            or_ignore: Whether to skip rows that exist already.
            updates_by: The column by which a row that exists is found and updated, where a value is
                not NULL.

        Raises:
            sqlalchemy.exc.IntegrityError: If a row exists already.
        """
        placeholder = "?" if self.is_sqlite else "%s"
        for start in range(0, len(rows), _MAX_ROWS):
            some = rows[start : start + _MAX_ROWS]
            statement = _insert_statement(table.name, tuple(columns), len(some), placeholder)
            if or_ignore:
                statement += " ON CONFLICT DO NOTHING"
            elif updates_by:
                changes = (
                    f"{each} = coalesce(excluded.{each}, {table.name}.{each})" for each in columns
                )
                statement += f" ON CONFLICT ({updates_by}) DO UPDATE SET {', '.join(changes)}"
            values = tuple(chain.from_iterable(some))
            if self.is_sqlite:
                driver_of(connection).execute(statement, values)
            else:
                connection.exec_driver_sql(statement, values)

    def now_ms(self, connection: Connection) -> int:
        """Return the time by the database's clock: milliseconds since 1970-01-01T00:00:00Z."""
        if self.is_sqlite:  # its clock is this machine's
            return time.time_ns() // 1_000_000
        return int(connection.execute(select(now_ms())).scalar_one())

    def lock(self, connection: Connection, key: int) -> None:
        """Make other transactions that lock the same key wait until this one ends.

        Args:
            connection: The result of `writing`.
            key: The key to lock, a number of 64 bits.
        """
        if not self.is_sqlite:  # SQLite has one writer at a time
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def tidy(self) -> None:
        """Do periodic maintenance, as described for `SQLite.tidy`.

        Raises:
            StoreUnavailableError: If the database cannot be reached or written.
        """
        if self._sqlite is not None:
            self._sqlite.tidy()

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._sqlite is not None:
            self._sqlite.close()
        if self._postgresql is not None:
            self._postgresql.give_up_migrating()
            self._upgrade.join()
            self._postgresql.engine.dispose()


def _postgresql(url: URL) -> PostgreSQL:
    from kedro_flask_server.store.postgresql import PostgreSQL

    return PostgreSQL(url, libpq_options(url))


@lru_cache
def _insert_statement(table: str, columns: tuple[str, ...], rows: int, placeholder: str) -> str:
    row = f"({', '.join([placeholder] * len(columns))})"
    values = ", ".join([row] * rows)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values}"  # noqa: S608  ours
