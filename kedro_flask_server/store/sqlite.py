"""Connections to an SQLite file: one writer at a time, and a write-ahead log that stays small."""

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
from kedro_flask_server.store.files import DatabaseFile
from kedro_flask_server.store.prepared import driver_of
from kedro_flask_server.store.unavailable import unavailable_on_failure

logger = logging.getLogger(__name__)

# What a request waits for, one after the other, is together below the five seconds within which
# it has its answer: for its turn to write, and for other processes.
_TURN_S = 3.0
_OTHERS_S = 1.5

_MAX_CONNECTIONS = 10

# The size to which the write-ahead log grows where nothing checkpoints it.
_MAX_LOG_PAGES = 10_000

# What SQLite says of a file that is not as it was when it was opened: it may be when it is opened
# again, as where it was read-only then.
_OF_FILE = ("readonly", "disk I/O error", "malformed", "not a database", "unable to open")


class SQLite:
    """The connections to an SQLite file."""

    def __init__(self, url: URL, *, empty_log_every_s: float) -> None:
        """Take an address; nothing is opened yet.

        Args:
            url: The address.
            empty_log_every_s: How often the write-ahead log is emptied, where something was
                written.
        """
        self._file = DatabaseFile(Path(str(url.database)))
        self._path = str(url.database)
        self.generation = 0
        """How often the connections were closed because the file was replaced."""
        self._engine = _create_engine(url)
        # SQLite has one writer at a time, and lets the others poll for their turn.
        self._write_lock = threading.Lock()
        self._writer: Connection | None = None
        self._is_stale = False
        self._has_written = False
        self._is_log_used = True
        self._empty_log_every_s = empty_log_every_s
        self._empty_at = 0.0

    def is_replaced(self) -> bool:
        """Return whether the file that is open was deleted or replaced."""
        return self._file.is_replaced()

    def drop_replaced_file(self) -> None:
        """Close the connections to a file that was replaced.

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
        """Make the file, if there is none.

        Raises:
            ServerSettingsError: If its folder is on a network file system, or cannot be used.
            StoreUnavailableError: If that cannot be done now.
        """
        self._file.prepare()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Return a connection, in a transaction, that reads."""
        self._file.check()
        with unavailable_on_failure(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Return the connection that writes, in a transaction, when it is this thread's turn."""
        with self._turn(), unavailable_on_failure():
            self._file.check()
            if self._is_stale:
                self._close_all()
            try:
                # To keep the connection halves what an empty transaction takes.
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
        """Write what the write-ahead log holds into the file, so that the log does not grow.

        SQLite does so by itself, at every thousandth page, and has the transaction that commits
        then wait for the disk, and all that wait for their turn. From time to time the log is
        emptied: until it is overwritten, it holds what has since been redacted or deleted.

        Raises:
            StoreUnavailableError: If the file cannot be reached or written.
        """
        if self._has_written:
            self._has_written = False
            self._is_log_used = True
            self._checkpoint()  # most of it, while others write
            with self._turn():
                self._checkpoint()  # the rest, after which the log begins at its start
        if self._is_log_used and time.monotonic() >= self._empty_at:
            with self._turn():
                self._is_log_used = not self._empty_log()
            if not self._is_log_used:
                self._empty_at = time.monotonic() + self._empty_log_every_s

    def _checkpoint(self) -> None:
        with unavailable_on_failure(), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _empty_log(self) -> bool:
        """Empty the write-ahead log, unless another connection reads it; return whether it is."""
        with unavailable_on_failure(), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 0")  # others must not wait for those who read
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
        else:  # a transaction goes on
            self._engine.dispose()

    def _close_all(self) -> None:
        """Close the connections, in this thread's turn to write."""
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
        max_overflow=-1,  # they cost little, and there are no more than threads
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _: object) -> None:
    # Transactions begin where `_begin` says, not where the driver thinks.
    connection.isolation_level = None
    if _write_ahead(connection) != "wal":
        raise ServerSettingsError(
            "SQLite cannot keep its write-ahead log in this folder: name one on a local disk "
            "(setting state_dir), or a PostgreSQL database (setting database_url)."
        )
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # there may be no folder for others
    connection.execute(f"PRAGMA wal_autocheckpoint = {_MAX_LOG_PAGES}")
    # What is redacted or deleted is overwritten, in pages that become free, too.
    connection.execute("PRAGMA secure_delete = ON")


def _write_ahead(connection: Any) -> str:
    """Have a new file keep a write-ahead log, and return which journal it keeps.

    Where others change that at the same moment, SQLite gives up at once, without waiting.
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
    # A transaction that reads first and then writes would be refused if another has written.
    writes = connection.get_execution_options().get("writes")
    driver_of(connection).execute("BEGIN IMMEDIATE" if writes else "BEGIN")
