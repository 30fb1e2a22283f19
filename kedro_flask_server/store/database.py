"""Opens the database: its limits, and its schema brought up to date."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, create_engine, event, select, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.store.files import DatabaseFile
from kedro_flask_server.store.prepared import driver_of
from kedro_flask_server.store.schema import now_ms
from kedro_flask_server.store.upgrade import Upgrade
from kedro_flask_server.store.upgrading import upgrade_one_step
from kedro_flask_server.text import bounded, printable

if TYPE_CHECKING:
    from kedro_flask_server.store.exchange import Statement
    from kedro_flask_server.store.postgresql import PostgreSQL

logger = logging.getLogger(__name__)

# What a request waits for with SQLite, one after the other, is together below the five seconds
# within which it has its answer: for its turn to write, and for other processes.
_TURN_S = 3.0
_OTHERS_S = 1.5

# How long who opens PostgreSQL waits for its schema to be brought up to date; an empty database
# takes a fraction of that.
_UPGRADE_S = 2.5

_MAX_CONNECTIONS = 10

# Of one statement: older SQLites take 999 parameters.
_MAX_ROWS = 150

# Of libpq's options, those that a URL takes, and the values that some may have.
_LIBPQ: dict[str, tuple[str, ...] | None] = {
    "sslmode": ("disable", "prefer", "require", "verify-ca", "verify-full"),
    "sslrootcert": None,
    "sslcert": None,
    "sslkey": None,
    "target_session_attrs": ("read-write", "primary", "any"),
}
_SEVERAL_HOSTS = re.compile(r"(postgresql://(?:[^:/]*(?::[^@]*)?@)?)([^/?]*,[^/?]*)(.*)")
_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(?::(\d+))?")
_FILE_NAME = "runs.db"

# Of SQLite's write-ahead log: so large it becomes where nobody tidies it.
_MAX_LOG_PAGES = 10_000

_EMPTY_EVERY_S = 20.0

# "KeFlSv" in ASCII: PostgreSQL's advisory locks are numbers that programs agree upon.
_MIGRATION_LOCK = 0x4B65466C5376

# What PostgreSQL calls a lock for which one has waited as long as one may.
_LOCKED = "55P03"


class Database:
    """The database that the store keeps its rows in: SQLite or PostgreSQL."""

    def __init__(self, url: URL, *, empty_log_every_s: float = _EMPTY_EVERY_S) -> None:
        """Take an address; nothing is opened yet.

        Args:
            url: What `locate` returned.
            empty_log_every_s: How often SQLite's write-ahead log is emptied of what it does not
                need any more, where something was written.
        """
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._url = url
        # SQLite has one writer at a time, and lets the others poll for their turn.
        self._turn_to_write = threading.Lock()
        self._is_open = False
        self._postgresql = None if self.is_sqlite else _postgresql(url)
        self._upgrade = Upgrade(self._bring_up_to_date)
        self._file = DatabaseFile(Path(str(url.database))) if self.is_sqlite else None
        self.generation = 0
        """How often its connections were given up because the file was replaced."""
        self._is_stale = False
        self._engine = self._create_engine()
        self._writer: Connection | None = None
        self._has_written = False
        self._is_log_used = self.is_sqlite
        self._empty_log_every_s = empty_log_every_s
        self._empty_at = 0.0
        self._of_thread = _OfThread()

    @property
    def shown(self) -> str:
        """The address without what is secret in it."""
        return _without_secrets(self._url)

    def _create_engine(self) -> Engine:
        if self._postgresql is not None:
            return self._postgresql.engine
        engine = create_engine(
            self._url,
            connect_args={"timeout": _OTHERS_S, "check_same_thread": False},
            pool_size=_MAX_CONNECTIONS,
            max_overflow=-1,  # they cost little, and there are no more than threads
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_in_sqlite)
        return engine

    def open(self) -> None:
        """Make the tables, or bring them up to date; again, do nothing.

        An SQLite file that was deleted or replaced meanwhile is opened again, or made.

        Raises:
            ServerSettingsError: If the database cannot be used at all: its folder is on a
                network file system or cannot be written, or it is newer than this program,
                which may not use it.
            StoreUnavailableError: If it cannot be reached now.
        """
        if self._is_open and (self._file is None or not self._file.is_replaced()):
            return
        if self._file is not None:
            if self._is_open:
                self._file.expect_settled()
                self._drop_replaced_file(self._file)
            self._file.prepare()
        if self._postgresql is None:
            self._bring_up_to_date()
        else:  # which may take minutes, and whoever asks is to be told
            self._upgrade.wait(_UPGRADE_S)
        self._is_open = True

    def _bring_up_to_date(self) -> None:
        while self._upgrade_one_step():
            pass

    @contextmanager
    def _migrating(self) -> Iterator[Connection]:
        """Return a connection, in a transaction, for what changes the schema."""
        if self._postgresql is None:
            with self.writing() as connection:
                yield connection
            return
        with _unavailable_where_it_fails(), self._postgresql.migrating() as connection:
            try:
                self.lock(connection, _MIGRATION_LOCK)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCKED:
                    raise
                reason = "another server is bringing its schema up to date"
                raise StoreUnavailableError(reason) from error
            yield connection

    def _upgrade_one_step(self) -> bool:
        with self._migrating() as connection:
            return upgrade_one_step(connection, self.shown)

    def _drop_replaced_file(self, file: DatabaseFile) -> None:
        with self._turn():
            if file.is_replaced():  # others may have done so
                self._close_all()
                self._is_open = False
                self.generation += 1
                logger.error(
                    "%s was deleted or replaced: it is opened again; what the file before held "
                    "and this one does not is gone",
                    self.shown,
                )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Return a connection, in a transaction, that reads.

        Raises:
            StoreUnavailableError: If the database cannot be reached.
        """
        if self._file is not None:
            self._file.check()
        engine = self._engine if self._postgresql is None else self._postgresql.reading_engine
        with _unavailable_where_it_fails(), engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Return a connection, in a transaction, that writes; it is committed at the end.

        Within, this thread writes in the same transaction.

        Raises:
            StoreUnavailableError: If the database cannot be reached or written.
            sqlalchemy.exc.IntegrityError: If a row is there already.
        """
        if self._of_thread.writing is not None:
            with _unavailable_where_it_fails():
                yield self._of_thread.writing
            return
        with self._turn(), _unavailable_where_it_fails(), self._begun() as connection:
            self._of_thread.writing = connection
            try:
                yield connection
            finally:
                self._of_thread.writing = None

    @property
    def is_writing(self) -> bool:
        """Whether this thread is within `writing`."""
        return self._of_thread.writing is not None

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        if not self.is_sqlite:
            with self._engine.begin() as connection:
                yield connection
            return
        file = self._file
        assert file is not None  # noqa: S101  it is SQLite's
        file.check()
        if self._is_stale:
            self._close_all()
        try:
            # One at a time writes: to keep its connection halves what an empty transaction takes.
            if self._writer is None:
                self._writer = self._engine.connect().execution_options(writes=True)
            with self._writer.begin():
                yield self._writer
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._is_stale = _is_of_file(error)
            raise
        self._has_written = True
        file.check()  # what was written to a file that is no more is not stored
        file.record_state()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._turn_to_write.acquire(timeout=_TURN_S):
            raise StoreUnavailableError("other requests wait to write to it")
        try:
            yield
        finally:
            self._turn_to_write.release()

    def transact(
        self, statement: Statement, values: Mapping[str, Any], *, lock: int | None = None
    ) -> list[tuple[Any, ...]]:
        """Execute a statement of PostgreSQL's, a transaction to itself, in one round trip.

        Args:
            statement: The statement.
            values: Its values, by their names.
            lock: What no other has locked meanwhile, a number of 64 bits. It is locked before: the
                statement sees what those have stored for whom it had to wait.

        Returns:
            Its rows.

        Raises:
            StoreUnavailableError: If the database cannot be reached or written.
            sqlalchemy.exc.IntegrityError: If a row is there already.
        """
        assert self._postgresql is not None  # noqa: S101  as the statement says
        with _unavailable_where_it_fails():
            return self._postgresql.transact(statement, values, lock=lock)

    def insert(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
        *,
        or_ignore: bool = False,
    ) -> None:
        """Add rows in one statement.

        A statement for each row is slow with both: PostgreSQL's driver waits for each answer, and
        SQLite's gives Python's lock away at each, to threads that compute. And what every run
        adds is not put together anew by SQLAlchemy, which takes longer than to execute it.

        Args:
            connection: What `writing` returned.
            table: The table.
            columns: The names of the columns of which values are given.
            rows: For each row, the values of these columns.
            or_ignore: Whether a row that is there already is left out.

        Raises:
            sqlalchemy.exc.IntegrityError: If a row is there already.
        """
        placeholder = "?" if self.is_sqlite else "%s"
        for start in range(0, len(rows), _MAX_ROWS):
            some = rows[start : start + _MAX_ROWS]
            statement = _insert_statement(table.name, tuple(columns), len(some), placeholder)
            if or_ignore:
                statement += " ON CONFLICT DO NOTHING"
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
        """Have other transactions wait that lock the same, until this one ends.

        Args:
            connection: What `writing` returned.
            key: What to lock, a number of 64 bits.
        """
        if not self.is_sqlite:  # there, whoever writes is alone
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def tidy(self) -> None:
        """Write what SQLite's write-ahead log holds into the file, so that it does not grow.

        SQLite does so by itself, at every thousandth page, and has whoever commits then wait for
        the disk, and all that wait for their turn. From time to time the log is emptied: it holds
        what has since been redacted or deleted until that is overwritten.

        Raises:
            StoreUnavailableError: If the database cannot be reached or written.
        """
        if self._has_written:
            self._has_written = False
            self._is_log_used = True
            self._write_back()  # most of it, while others write
            with self._turn():
                self._write_back()  # the rest, after which the log begins anew
        if self._is_log_used and time.monotonic() >= self._empty_at:
            with self._turn():
                self._is_log_used = not self._empty_log()
            if not self._is_log_used:
                self._empty_at = time.monotonic() + self._empty_log_every_s

    def _write_back(self) -> None:
        with _unavailable_where_it_fails(), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _empty_log(self) -> bool:
        """Empty the write-ahead log, if nobody reads from it; return whether that was done."""
        with _unavailable_where_it_fails(), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 0")  # others must not wait for those who read
            try:
                [is_busy, *_] = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {int(_OTHERS_S * 1000)}")
        return not is_busy

    def close(self) -> None:
        """Close the connections; whoever asks again opens new ones."""
        if self._turn_to_write.acquire(timeout=_TURN_S):  # or somebody writes still
            try:
                self._close_all()
            finally:
                self._turn_to_write.release()
        else:
            self._engine.dispose()

    def _close_all(self) -> None:
        """Close the connections, in this thread's turn to write."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(SQLAlchemyError, sqlite3.Error):
                writer.close()
        if self._postgresql is not None:
            self._postgresql.give_up_migrating()
            self._upgrade.join()
        self._engine.dispose()
        if self._file is not None:
            self._file.drop_state()
        self._is_stale = False


class _OfThread(threading.local):
    """What a thread has open."""

    writing: Connection | None = None


def locate(database_url: str | None, state_dir: Path) -> URL:
    """Return the address of the database.

    Args:
        database_url: A URL such as ``postgresql://user:password@host/name`` or
            ``sqlite:////folder/file``; None for a file in `state_dir`.
        state_dir: The folder for what the server keeps.

    Returns:
        The address.

    Raises:
        ServerSettingsError: If it is none, or of a database that is not served.
    """
    if database_url is None:
        return URL.create("sqlite", database=str(state_dir / _FILE_NAME))
    fault = (
        "it takes postgresql://user:password@host:port/name, with several hosts as "
        "host:port,host:port, or sqlite:////folder/file"
    )
    try:
        url = _parsed(database_url)
    except (ArgumentError, ValueError) as error:  # the latter: a port that is no number
        raise ServerSettingsError(f"Setting 'database_url' is no URL: {fault}.") from error
    shown = _without_secrets(url)
    if url.drivername not in ("postgresql", "sqlite"):
        raise ServerSettingsError(f"Setting 'database_url' cannot be {shown!r}: {fault}.")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise ServerSettingsError(f"Setting 'database_url' cannot be {shown!r}: it names no file.")
    if url.drivername == "postgresql":
        _libpq_options(url)
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise ServerSettingsError(
                "Setting 'database_url' names a PostgreSQL database, whose driver is not "
                "installed: pip install 'kedro-flask-server[postgresql]'."
            ) from error
    return url


def _parsed(database_url: str) -> URL:
    """Parse a URL; several hosts, which SQLAlchemy does not know in this form, become its host."""
    several = _SEVERAL_HOSTS.fullmatch(database_url)
    if several is None:
        return make_url(database_url)
    start, hosts, rest = several.groups()
    if not all(_HOST.fullmatch(each) for each in hosts.split(",")):
        raise ArgumentError(hosts)
    return make_url(f"{start}several{rest}").set(host=hosts)


def _postgresql(url: URL) -> PostgreSQL:
    from kedro_flask_server.store.postgresql import PostgreSQL

    return PostgreSQL(url, _libpq_options(url))


@lru_cache
def _insert_statement(table: str, columns: tuple[str, ...], rows: int, placeholder: str) -> str:
    row = f"({', '.join([placeholder] * len(columns))})"
    values = ", ".join([row] * rows)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values}"  # noqa: S608  ours


def _without_secrets(url: URL) -> str:
    if url.drivername == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"{url.drivername}://{url.host or ''}{port}/{url.database or ''}"


def _libpq_options(url: URL) -> dict[str, str]:
    """Return the options of a URL, which are libpq's."""
    options = {name: str(value) for name, value in url.query.items()}
    for name, value in options.items():
        allowed = _LIBPQ.get(name, ())
        if allowed is not None and value not in allowed:
            raise ServerSettingsError(
                f"Setting 'database_url' takes the options {_shown_options()}, and no others."
            )
        if allowed is None and (name, value) != ("sslrootcert", "system"):
            try:
                Path(value).open("rb").close()
            except OSError as error:
                raise ServerSettingsError(
                    f"The {name} of setting 'database_url' cannot be read: {error}."
                ) from error
    return options


def _shown_options() -> str:
    return ", ".join(
        f"{name} ({'a file' if values is None else ', '.join(values)})"
        for name, values in _LIBPQ.items()
    )


def _set_up_sqlite(connection: Any, _: object) -> None:
    # Transactions begin where `_begin_in_sqlite` says, not where the driver thinks.
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
    # What is redacted or deleted is overwritten, in pages that are free from now on, too.
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


def _begin_in_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes would be refused if another has written.
    writes = connection.get_execution_options().get("writes")
    driver_of(connection).execute("BEGIN IMMEDIATE" if writes else "BEGIN")


# What SQLite says of a file that is not as it was when it was opened: it may be when it is opened
# again, as where it was read-only then.
_OF_FILE = ("readonly", "disk I/O error", "malformed", "not a database", "unable to open")


def _is_of_file(error: BaseException) -> bool:
    return any(reason in str(error) for reason in _OF_FILE)


@contextmanager
def _unavailable_where_it_fails() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except sqlite3.IntegrityError as error:
        raise IntegrityError(None, None, error) from error
    # The last: a socket that has timed out.
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = getattr(error, "orig", None) or error
        raise StoreUnavailableError(printable(bounded(_reason(reason), 300))) from error


def _reason(error: BaseException) -> str:
    if hasattr(error, "sqlstate"):  # what PostgreSQL says, without its hints
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{type(error).__name__}: {error}"
