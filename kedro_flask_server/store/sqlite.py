"""Connections to an SQLite file: one writer at a time, and a bounded write-ahead log."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.store.database_file import DatabaseFile
from kedro_flask_server.store.prepared import driver_of
from kedro_flask_server.store.unavailable import unavailable_on_failure

logger = logging.getLogger(__name__)

# The waits of a request, for the writer's lock and for other processes: together below the five
# seconds in which it must be answered.
_TURN_S = 3.0
_OTHERS_S = 1.5

_MAX_CONNECTIONS = 10

# The size to which the write-ahead log grows without checkpoints.
_MAX_LOG_PAGES = 10_000

# SQLite's errors for a file that has changed since it was opened: opening it again may help, for
# example if it was read-only.
_OF_FILE = ("readonly", "disk I/O error", "malformed", "not a database", "unable to open")


class SQLite:
    """The connections to an SQLite file."""

    def __init__(self, url: URL, *, empty_log_every_s: float) -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: The address.
            empty_log_every_s: How often the write-ahead log is emptied after writes.
        """
        self._file = DatabaseFile(Path(str(url.database)))
        self._path = str(url.database)
        self.generation = 0
        """How often the connections were closed because the file was replaced."""
        self._engine = _create_engine(url)
        # SQLite has one writer at a time, and makes the others poll.
        self._write_lock = threading.Lock()
        self._writer: Connection | None = None
        self._is_stale = False
        self._has_written = False
        self._is_log_used = True
        self._empty_log_every_s = empty_log_every_s
        self._empty_at = 0.0

    def is_replaced(self) -> bool:
        """Return whether the open file was deleted or replaced."""
        return self._file.is_replaced()

    def drop_replaced_file(self) -> None:
        """Close the connections to a replaced file.

        Raises:
            StoreUnavailableError: If the new file is still being written.
        """
        self._file.expect_settled()
        with self._turn():
            if self._file.is_replaced():  # another thread may have done so
                self._close_all()
                self.generation += 1
                logger.error(
                    "%s was deleted or replaced: it is opened again; what the file before held "
                    "and this one does not is gone",
                    self._path,
                )

    def prepare(self) -> None:
        """Create the file, if there is none.

        Raises:
            ServerSettingsError: If its folder is on a network file system, or cannot be used.
            StoreUnavailableError: If it cannot be created now.
        """
        self._file.prepare()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Return a connection, in a transaction, for reading."""
        self._file.check()
        with unavailable_on_failure(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Return the connection for writing, in a transaction, when it is this thread's turn."""
        with self._turn(), unavailable_on_failure():
            self._file.check()
            if self._is_stale:
                self._close_all()
            try:
                # Keeping the connection halves the time of an empty transaction.
                if self._writer is None:
                    self._writer = self._engine.connect().execution_options(writes=True)
                with self._writer.begin():
                    yield self._writer
            except (SQLAlchemyError, sqlite3.Error) as error:
                self._is_stale = any(reason in str(error) for reason in _OF_FILE)
                raise
            self._has_written = True
            self._file.check()  # what was written to a deleted file is not stored
            self._file.record_state()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._write_lock.acquire(timeout=_TURN_S):
            raise StoreUnavailableError("other requests wait to write to it")
        try:
            yield
        finally:
            self._write_lock.release()

    def tidy(self) -> None:
        """Checkpoint the write-ahead log into the file, so that the log does not grow.

        SQLite does so itself, at every thousandth page, and makes the committing transaction and
        all that wait for it wait for the disk. Periodically the log is emptied: until it is
        overwritten, it contains what has since been redacted or deleted.

        Raises:
            StoreUnavailableError: If the file cannot be reached or written.
        """
        if self._has_written:
            self._has_written = False
            self._is_log_used = True
            self._checkpoint()  # most of it, concurrently with writers
            with self._turn():
                self._checkpoint()  # the rest, after which the log restarts
        if self._is_log_used and time.monotonic() >= self._empty_at:
            with self._turn():
                self._is_log_used = not self._empty_log()
            if not self._is_log_used:
                self._empty_at = time.monotonic() + self._empty_log_every_s

    def _checkpoint(self) -> None:
        with unavailable_on_failure(), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _empty_log(self) -> bool:
        """Empty the write-ahead log unless a connection reads it; return whether it is empty."""
        with unavailable_on_failure(), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 0")  # writers must not wait for readers
            try:
                [is_busy, *_] = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {int(_OTHERS_S * 1000)}")
        return not is_busy

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._write_lock.acquire(timeout=_TURN_S):
            try:
                self._close_all()
            finally:
                self._write_lock.release()
        else:  # a transaction is in progress
            self._engine.dispose()

    def _close_all(self) -> None:
        """Close the connections, while this thread holds the writer's lock."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(SQLAlchemyError, sqlite3.Error):
                writer.close()
        self._engine.dispose()
        self._file.drop_state()
        self._is_stale = False


def _create_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": _OTHERS_S, "check_same_thread": False},
        pool_size=_MAX_CONNECTIONS,
        max_overflow=-1,  # they are cheap, and no more than threads
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _: object) -> None:
    # `_begin` begins transactions, not the driver.
    connection.isolation_level = None
    if _write_ahead(connection) != "wal":
        raise ServerSettingsError(
            "SQLite cannot keep its write-ahead log in this folder: name one on a local disk "
            "(setting state_dir), or a PostgreSQL database (setting database_url)."
        )
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # there may be no temporary folder
    connection.execute(f"PRAGMA wal_autocheckpoint = {_MAX_LOG_PAGES}")
    # Overwrite what is redacted or deleted, also in freed pages.
    connection.execute("PRAGMA secure_delete = ON")


def _write_ahead(connection: Any) -> str:
    """Set a new file to a write-ahead log, and return its journal mode.

    If others change that at the same moment, SQLite fails at once, without waiting.
    """
    ends_at = time.monotonic() + _OTHERS_S
    while True:
        try:
            [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.02)
        else:
            return str(mode)


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes would fail if another has written.
    writes = connection.get_execution_options().get("writes")
    driver_of(connection).execute("BEGIN IMMEDIATE" if writes else "BEGIN")
