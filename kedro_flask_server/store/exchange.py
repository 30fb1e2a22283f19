"""Sends PostgreSQL statements, several in one round trip, and ends every wait for its answer.

libpq's pipeline mode (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html) sends
them without waiting for one another's results. A server that is stopped still has its kernel
acknowledge what it is sent: neither TCP nor the server's own limits end the wait for it.
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


class Connection(psycopg.Connection[Any]):
    """A connection, every wait of which ends.

    Attributes:
        answer_s: How many seconds a statement's answer may take; None: as long as it likes.
        is_pooled: Whether what answers is a pooler that gives each transaction another server
            connection, so that a session has no state.
        made_at: When it was made (monotonic, in seconds).
        checked_at: When it was last seen to work.
    """

    answer_s: float | None = None
    is_pooled = False

    def __init__(self, pgconn: pq.abc.PGconn, row_factory: Any = psycopg.rows.tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.made_at = self.checked_at = time.monotonic()
        self.prepared: set[bytes] = set()

    def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """Wait for what psycopg does on the connection, as for `psycopg.Connection`.

        Raises:
            psycopg.OperationalError: If it takes too long; the connection is closed then.
        """
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: PQGen[RV]) -> PQGen[RV]:
        began_at = time.monotonic()
        try:
            awaited = next(gen)
            while True:
                ready = yield awaited  # psycopg looks ten times a second
                if self.answer_s is not None and time.monotonic() > began_at + self.answer_s:
                    raise self.silent()
                awaited = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result

    def silent(self) -> psycopg.OperationalError:
        """Close the connection, and return the error that no answer has come."""
        self.pgconn.finish()
        return psycopg.OperationalError(f"no answer within {self.answer_s} s")

    def has_news(self) -> bool:
        """Return whether something has come that was not asked for, such as its end."""
        return is_ready(self.pgconn.socket, Ready.R, 0)


Rows = list[tuple[Any, ...]]


def exchange(
    connection: Connection, statements: Sequence[tuple[Statement, Mapping[str, Any]]]
) -> list[Rows]:
    """Execute statements in one round trip; after one that fails, none of those that follow.

    Args:
        connection: The connection.
        statements: The statements, each with its values by their names.

    Returns:
        The rows of each.

    Raises:
        psycopg.Error: What the server says of the first that fails, or that there is no answer;
            the connection is closed then.
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
        # What is still to come would be taken for the answer to what is sent next.
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
    connection: Connection,
    statement: Statement,
    given: Mapping[str, Any],
    sent: list[bytes | None],
) -> None:
    pgconn, values = connection.pgconn, statement.values(given)
    if connection.is_pooled:  # what is prepared is another transaction's
        pgconn.send_query_params(statement.text, values)
    else:
        if statement.name not in connection.prepared and statement.name not in sent:
            pgconn.send_prepare(statement.name, statement.text)
            sent.append(statement.name)
        pgconn.send_query_prepared(statement.name, values)
    sent.append(None)


def _flush(connection: Connection, ends_at: float | None) -> None:
    pgconn = connection.pgconn
    while pgconn.flush():
        _wait(connection, Ready.R | Ready.W, ends_at)
        if is_ready(pgconn.socket, Ready.R, 0):  # else both might wait for the other to read
            pgconn.consume_input()


def _next_result(
    connection: Connection, ends_at: float | None, *, is_sync: bool = False
) -> pq.abc.PGresult:
    result = _result(connection, ends_at)
    assert result is not None  # noqa: S101  each statement has one
    if not is_sync:
        assert _result(connection, ends_at) is None  # noqa: S101  which ends them
    return result


def _result(connection: Connection, ends_at: float | None) -> pq.abc.PGresult | None:
    pgconn = connection.pgconn
    while pgconn.is_busy():
        _wait(connection, Ready.R, ends_at)
        pgconn.consume_input()
    return pgconn.get_result()


def _wait(connection: Connection, ready: int, ends_at: float | None) -> None:
    remaining_s = None if ends_at is None else max(0.0, ends_at - time.monotonic())
    if not is_ready(connection.pgconn.socket, ready, remaining_s):
        raise connection.silent()


def is_ready(socket: int, ready: int, timeout_s: float | None) -> bool:
    """Wait until a socket can be read or written, and return whether it can.

    Args:
        socket: Its number.
        ready: Whether it is to be read, written, or one of both.
        timeout_s: How many seconds to wait at most; None: as long as it takes.
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
