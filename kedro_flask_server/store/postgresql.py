"""Connections to PostgreSQL: failover between servers, limits and timeouts."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.waiting import Ready
from sqlalchemy import Connection as SQLConnection
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.pool import NullPool

from kedro_flask_server.store.libpq_pipeline import (
    BoundedConnection,
    Rows,
    exchange,
    is_ready,
)
from kedro_flask_server.store.prepared import Statement
from kedro_flask_server.store.unavailable import unavailable_on_failure
from kedro_flask_server.store.url import hosts_of

# The waits of a request, one after the other: for a connection of the pool; for its check, and its
# replacement if it fails; and for a response. Their sum stays within the five seconds in which a
# request must be answered.
_POOL_S = 1.0
_REACH_S = 2.3
_ANSWER_S = 1.7

# The part of the time to reach a server that the check of a connection may take.
_CHECK_S = 0.8

# After this, PostgreSQL itself cancels a statement.
_STATEMENT_S = 1.5

# After so many seconds, PostgreSQL ends a transaction whose server is silent.
_SILENCE_S = 3.0

# The lock timeout of a migration, as all others wait behind it meanwhile; its own work is not
# limited.
_LOCK_MS = 2_000

# How long a connection is trusted to work, and to lead to a writable server.
_BELIEVED_S = 1.0

_MAX_CONNECTIONS = 10
_WRITABLE = ("read-write", "primary")

# Codes that require another server: this one is read-only, or stopping.
_NOT_HERE = ("25006", "57P01", "57P02", "57P03")

_BEGIN = Statement("BEGIN ISOLATION LEVEL READ COMMITTED")
_COMMIT = Statement("COMMIT")
_LOCK = Statement("SELECT pg_advisory_xact_lock(CAST(:key AS BIGINT))")
_IS_READ_ONLY = Statement("SHOW transaction_read_only")

# A pooler such as PgBouncer reports a process id of its own; settings there would affect others.
_SET = (
    "SELECT set_config(name, setting, :is_local) FROM (VALUES {}) AS wanted (name, setting)"
    " WHERE CAST(:pid AS INTEGER) IN (0, pg_backend_pid())"
)

_SESSION = {
    "statement_timeout": int(_STATEMENT_S * 1000),
    # The locks of a server that is suspended or cut off in a transaction must not block others.
    "idle_in_transaction_session_timeout": int(_SILENCE_S * 1000),
}
_KEEPALIVES = {
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
}


def _setting(values: Mapping[str, int]) -> Statement:
    return Statement(_SET.format(", ".join(f"('{name}', '{values[name]}')" for name in values)))


_SET_SESSION = _setting(_SESSION | _KEEPALIVES)
_SET_TRANSACTION = _setting(_SESSION)
_SET_MIGRATION = _setting({"statement_timeout": 0, "lock_timeout": _LOCK_MS, **_KEEPALIVES})

Work = Sequence[tuple[Statement, Mapping[str, Any]]]


class PostgreSQL:
    """The connections to a PostgreSQL database, to whichever of its servers is writable."""

    def __init__(self, url: URL, options: Mapping[str, str]) -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: The address; its host may be several, as ``host:port,host:port``.
            options: libpq's options.
        """
        self._hosts = list(hosts_of(url))
        self._options: dict[str, Any] = {
            "target_session_attrs": "read-write",
            **options,
            "user": url.username,
            "password": url.password,
            "dbname": url.database,
            "application_name": "kedro-flask-server",
            "client_encoding": "utf8",
            "gssencmode": "disable",  # saves a round trip
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        }
        self._options.update(_authorities(self._options))
        self._must_be_writable = self._options["target_session_attrs"] in _WRITABLE
        # Older connections lead to a server that is gone, or no longer writable.
        self._distrusted_before = 0.0
        self._is_pooled = False
        self._checking = _Checking()
        self._migrator: BoundedConnection | None = None
        self.engine = self._create_engine()
        # Each statement sees what is committed when it begins, with or without a transaction.
        self._alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def _create_engine(self) -> Engine:
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect_within_limits,
            pool_size=_MAX_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_POOL_S,
            pool_use_lifo=True,  # connections in use are known to work
            isolation_level="READ COMMITTED",
            use_native_hstore=False,  # otherwise looked up with each connection
        )
        event.listen(engine, "checkout", self._check)
        event.listen(engine, "handle_error", self._note_error)
        event.listen(engine, "begin", self._limit_transaction)
        return engine

    @contextmanager
    def reading(self) -> Iterator[SQLConnection]:
        """Return a connection that reads, with no round trips to begin and end where it can."""
        engine = self.engine if self._is_pooled else self._alone
        with unavailable_on_failure(), engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[SQLConnection]:
        """Return a connection, in a transaction, that writes."""
        with unavailable_on_failure(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[SQLConnection]:
        """Return a connection, in a transaction, for a migration, which has its own limits."""
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect_to_migrate,
            poolclass=NullPool,
            isolation_level="READ COMMITTED",
            use_native_hstore=False,
        )
        try:
            with engine.begin() as connection:
                if self._is_pooled:
                    limits = f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {_LOCK_MS}"
                    connection.exec_driver_sql(limits)
                yield connection
        finally:
            self._migrator = None

    def _connect_to_migrate(self) -> BoundedConnection:
        self._migrator = self._connect(_SET_MIGRATION, answer_s=None)
        return self._migrator

    def give_up_migrating(self) -> None:
        """Cancel a running migration, which leaves the schema unchanged."""
        migrator = self._migrator
        if migrator is not None:
            migrator.answer_s = 0

    def transact(
        self, statement: Statement, values: Mapping[str, Any], *, locks: Sequence[int] = ()
    ) -> Rows:
        """Execute a statement as a transaction, as described for `Database.transact`.

        Raises:
            sqlalchemy.exc.IntegrityError: If a row exists already.
            sqlalchemy.exc.SQLAlchemyError: If it cannot be executed now.
        """
        work: Work = [*((_LOCK, {"key": key}) for key in locks), (statement, values)]
        try:
            rows = self._execute(work)
        except psycopg.Error as error:
            kind = IntegrityError if isinstance(error, psycopg.IntegrityError) else DBAPIError
            raise kind(None, None, error) from error
        return rows[-1]

    def _execute(self, work: Work) -> list[Rows]:
        with closing(self.engine.raw_connection()) as pooled:
            connection = pooled.driver_connection
            assert isinstance(connection, BoundedConnection)  # noqa: S101  created by `_connect`
            before: Work = ()
            if connection.is_pooled:
                before = [(_BEGIN, {}), (_SET_TRANSACTION, {"is_local": True, "pid": 0})]
            elif len(work) > 1:
                before = [(_BEGIN, {})]
            after: Work = [(_COMMIT, {})] if before else ()
            try:
                rows = exchange(connection, [*before, *work, *after])
            except psycopg.Error as error:
                self._distrust_after(error, connection)
                if connection.closed:
                    pooled.invalidate(error)
                raise
            return rows[len(before) : len(before) + len(work)]

    def _connect_within_limits(self) -> BoundedConnection:
        return self._connect(_SET_SESSION, answer_s=_ANSWER_S)

    def _connect(self, limits: Statement, *, answer_s: float | None) -> BoundedConnection:
        """Connect to the first server that is reachable and writable."""
        left_s, self._checking.left_s = self._checking.left_s, _REACH_S
        ends_at = time.monotonic() + left_s
        attempts = list(self._attempts())
        faults = {}
        for number, (host, port, address) in enumerate(attempts):
            now = time.monotonic()
            conninfo = make_conninfo(host=host, port=port, hostaddr=address, **self._options)
            try:
                pgconn = _connected(conninfo, now + (ends_at - now) / (len(attempts) - number))
                connection = BoundedConnection(pgconn)
                _limit(connection, limits)
            except psycopg.Error as error:
                faults[f"{host}:{port}"] = error
                continue
            connection.answer_s = answer_s
            self._is_pooled = connection.is_pooled
            # The server that was found is tried first the next time.
            self._hosts.sort(key=lambda each: each != (host, port))
            return connection
        if len(faults) == 1:
            raise next(iter(faults.values()))
        raise psycopg.OperationalError("; ".join(f"{who}: {faults[who]}" for who in faults))

    def _attempts(self) -> Iterator[tuple[str, int, str]]:
        """Yield host, port and address of all servers.

        Names are resolved each time, since a name may move to another server.

        Raises:
            psycopg.OperationalError: If no server has an address.
        """
        fault: OSError | None = None
        has_any = False
        for host, port in [*self._hosts]:
            try:
                # libpq would block all threads.
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                fault = error
                continue
            for *_, address in found:
                has_any = True
                yield host, port, str(address[0])
        if not has_any:
            raise psycopg.OperationalError(f"{host}: {fault}") from fault

    def _check(self, connection: BoundedConnection, *_: object) -> None:
        """Check a connection of the pool.

        Raises:
            DisconnectionError: If it does not work, or leads to the wrong server; it is replaced
                then.
        """
        if connection.made_at < self._distrusted_before or connection.has_news():
            raise DisconnectionError
        if time.monotonic() - connection.checked_at < _BELIEVED_S:
            return
        connection.answer_s = _CHECK_S
        began_at = time.monotonic()
        try:
            [[(is_read_only,)]] = exchange(connection, [(_IS_READ_ONLY, {})])
        except psycopg.Error as error:
            self._distrust_after(error, connection)
            self._checking.left_s = _REACH_S - (time.monotonic() - began_at)
            raise DisconnectionError from error
        connection.answer_s = _ANSWER_S
        if is_read_only == "on" and self._must_be_writable:
            self._distrusted_before = time.monotonic()
            raise DisconnectionError

    def _note_error(self, context: Any) -> None:
        of = context.connection
        driver = None if of is None or of.invalidated else of.connection.driver_connection
        if self._distrust_after(context.original_exception, driver):
            context.is_disconnect = True

    def _distrust_after(self, error: BaseException, connection: BoundedConnection | None) -> bool:
        """Replace all connections if an error shows that they lead to the wrong server."""
        is_closed = connection is not None and connection.closed
        is_wrong = is_closed or getattr(error, "sqlstate", None) in _NOT_HERE
        if is_wrong:
            self._distrusted_before = time.monotonic()
            if connection is not None:
                connection.close()
        return is_wrong

    def _limit_transaction(self, connection: Any) -> None:
        driver = connection.connection.driver_connection
        if driver.is_pooled and not driver.autocommit:
            names = "; ".join(f"SET LOCAL {name} = {value}" for name, value in _SESSION.items())
            driver.execute(names)


class _Checking(threading.local):
    """The remaining time of a thread to reach the server."""

    left_s = _REACH_S


def _limit(connection: BoundedConnection, limits: Statement) -> None:
    """Set the limits of a session, and detect a pooler."""
    connection.answer_s = _CHECK_S
    connection.is_pooled = True  # until proved otherwise
    pid = connection.pgconn.backend_pid
    [found] = exchange(connection, [(limits, {"pid": pid, "is_local": False})])
    connection.is_pooled = not found
    # What psycopg prepares by itself it deallocates after a rollback, and with it all that others
    # have prepared in the session.
    connection.prepare_threshold = None


def _connected(conninfo: str, ends_at: float) -> pq.abc.PGconn:
    """Connect to a server, with a deadline.

    Args:
        conninfo: The server.
        ends_at: The deadline, by the monotonic clock.

    Raises:
        psycopg.OperationalError: If the connection fails.
    """
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    ready = Ready.W
    while True:
        if pgconn.status == pq.ConnStatus.BAD:
            raise _connection_fault(pgconn, pgconn.error_message.decode(errors="replace"))
        if not is_ready(pgconn.socket, ready, max(0.0, ends_at - time.monotonic())):
            raise _connection_fault(pgconn, "it does not answer")
        status = pgconn.connect_poll()
        if status == pq.PollingStatus.OK:
            pgconn.nonblocking = 1
            return pgconn
        ready = Ready.W if status == pq.PollingStatus.WRITING else Ready.R


def _connection_fault(pgconn: pq.abc.PGconn, reason: str) -> psycopg.OperationalError:
    pgconn.finish()
    return psycopg.OperationalError(reason.strip())


def _authorities(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the default certificate authorities: those that Python trusts on this machine.

    libpq would look for a file in the home folder, or use those of its bundled OpenSSL.
    """
    mode = options.get("sslmode", "prefer")
    if "sslrootcert" in options or not mode.startswith("verify"):
        return {}
    paths = ssl.get_default_verify_paths()
    known = (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    return {"sslrootcert": next((each for each in known if each and Path(each).exists()), "system")}
