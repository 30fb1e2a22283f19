"""Sends PostgreSQL statements, several in one round trip, with a timeout on each wait.

libpq's pipeline mode (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html) sends them
without waiting for one another's results. The kernel of a suspended server still acknowledges data:
neither TCP nor the server's own limits end the wait for its response.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq
from psycopg.abc import RV, PQGen
from psycopg.waiting import Ready

from kedro_flask_server.store.prepared import Statement

_INTEGERS = (20, 21, 23)
_BOOLEAN = 16
_FLOATS = (700, 701)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection with a timeout on each wait.

    Attributes:
        answer_s: The timeout of a statement's response, in seconds; None for no limit.
        is_pooled: Whether a pooler responds, which gives each transaction another server
            connection, so that sessions have no state.
        made_at: When it was opened (monotonic, in seconds).
        checked_at: When it last worked (monotonic, in seconds).
    """

    answer_s: float | None = None
    is_pooled = False

    def __init__(self, pgconn: pq.abc.PGconn, row_factory: Any = psycopg.rows.tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.made_at = self.checked_at = time.monotonic()
        self.prepared: set[bytes] = set()

    def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """Wait for psycopg's operation on the connection, as for `psycopg.Connection`.

        Raises:
            psycopg.OperationalError: If it times out; the connection is closed then.
        """
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: PQGen[RV]) -> PQGen[RV]:
        began_at = time.monotonic()
        try:
            awaited = next(gen)
            while True:
                ready = yield awaited  # psycopg checks ten times a second
                if self.answer_s is not None and time.monotonic() > began_at + self.answer_s:
                    raise self.silent()
                awaited = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result

    def silent(self) -> psycopg.OperationalError:
        """Close the connection, and return the error that there was no response."""
        self.pgconn.finish()
        return psycopg.OperationalError(f"no answer within {self.answer_s} s")

    def has_news(self) -> bool:
        """Return whether unsolicited data has arrived, such as the end of the connection."""
        return is_ready(self.pgconn.socket, Ready.R, 0)


Rows = list[tuple[Any, ...]]


def exchange(
    connection: BoundedConnection, statements: Sequence[tuple[Statement, Mapping[str, Any]]]
) -> list[Rows]:
    """Execute statements in one round trip, up to the first that fails.

    Args:
        connection: The connection.
        statements: The statements, each with its values by their names.

    Returns:
        The rows of each.

    Raises:
        psycopg.Error: The error of the first that fails, or that there was no response; the
            connection is closed then.
    """
    pgconn, sent = connection.pgconn, list[bytes | None]()
    ends_at = None if connection.answer_s is None else time.monotonic() + connection.answer_s
    try:
        pgconn.enter_pipeline_mode()
        for statement, given in statements:
            _send(connection, statement, given, sent)
        pgconn.pipeline_sync()
        _flush(connection, ends_at)
        results = [_next_result(connection, ends_at) for _ in sent]
        _next_result(connection, ends_at, is_sync=True)
        pgconn.exit_pipeline_mode()
    except BaseException:
        # Remaining results would be taken for responses to later statements.
        connection.close()
        raise
    connection.checked_at = time.monotonic()
    rows = []
    for prepared, result in zip(sent, results, strict=True):
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            raise _error_of(result)
        if prepared is None:
            rows.append(_rows_of(result))
        else:
            connection.prepared.add(prepared)
    return rows


def _send(
    connection: BoundedConnection,
    statement: Statement,
    given: Mapping[str, Any],
    sent: list[bytes | None],
) -> None:
    pgconn, values = connection.pgconn, statement.values(given)
    if connection.is_pooled:  # prepared statements belong to another session
        pgconn.send_query_params(statement.text, values)
    else:
        if statement.name not in connection.prepared and statement.name not in sent:
            pgconn.send_prepare(statement.name, statement.text)
            sent.append(statement.name)
        pgconn.send_query_prepared(statement.name, values)
    sent.append(None)


def _flush(connection: BoundedConnection, ends_at: float | None) -> None:
    pgconn = connection.pgconn
    while pgconn.flush():
        _wait(connection, Ready.R | Ready.W, ends_at)
        if is_ready(pgconn.socket, Ready.R, 0):  # else both might wait for the other to read
            pgconn.consume_input()


def _next_result(
    connection: BoundedConnection, ends_at: float | None, *, is_sync: bool = False
) -> pq.abc.PGresult:
    result = _result(connection, ends_at)
    assert result is not None  # noqa: S101  one for each statement
    if not is_sync:
        assert _result(connection, ends_at) is None  # noqa: S101  which ends them
    return result


def _result(connection: BoundedConnection, ends_at: float | None) -> pq.abc.PGresult | None:
    pgconn = connection.pgconn
    while pgconn.is_busy():
        _wait(connection, Ready.R, ends_at)
        pgconn.consume_input()
    return pgconn.get_result()


def _wait(connection: BoundedConnection, ready: int, ends_at: float | None) -> None:
    remaining_s = None if ends_at is None else max(0.0, ends_at - time.monotonic())
    if not is_ready(connection.pgconn.socket, ready, remaining_s):
        raise connection.silent()


def is_ready(socket: int, ready: int, timeout_s: float | None) -> bool:
    """Wait until a socket is readable or writable, and return whether it is.

    Args:
        socket: Its descriptor.
        ready: What to wait for: readable, writable, or one of both.
        timeout_s: How many seconds to wait at most; None for no limit.
    """
    if sys.platform == "win32":
        read, written = [socket] * bool(ready & Ready.R), [socket] * bool(ready & Ready.W)
        return any(select.select(read, written, [socket], timeout_s))
    poll = select.poll()
    poll.register(
        socket, select.POLLIN * bool(ready & Ready.R) | select.POLLOUT * bool(ready & Ready.W)
    )
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def _error_of(result: pq.abc.PGresult) -> psycopg.Error:
    field = pq.DiagnosticField
    state = (result.error_field(field.SQLSTATE) or b"").decode()
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    message = result.error_field(field.MESSAGE_PRIMARY) or result.error_message
    return kind(message.decode(errors="replace"))


def _rows_of(result: pq.abc.PGresult) -> Rows:
    kinds = [result.ftype(column) for column in range(result.nfields)]
    return [tuple(_values(result, row, kinds)) for row in range(result.ntuples)]


def _values(result: pq.abc.PGresult, row: int, kinds: Sequence[int]) -> Iterator[Any]:
    for column, kind in enumerate(kinds):
        value = result.get_value(row, column)
        if value is None:
            yield None
        elif kind in _INTEGERS:
            yield int(value)
        elif kind in _FLOATS:
            yield float(value)
        elif kind == _BOOLEAN:
            yield value == b"t"
        else:
            yield value.decode()
