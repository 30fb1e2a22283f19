"""Rows of the store and what they stand for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from kedro_flask_server.redaction import redact_content
from kedro_flask_server.runs.ids import EPOCH, time_of
from kedro_flask_server.runs.model import ErrorDetail, Progress, Run, RunRequest, RunStatus
from kedro_flask_server.runs.store.schema import runs

_MILLISECOND = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """Return a UTC time as whole milliseconds since 1970-01-01T00:00:00Z."""
    return (moment - EPOCH) // _MILLISECOND


def from_ms(milliseconds: int | None) -> datetime | None:
    """Return the UTC time that is a number of milliseconds since 1970-01-01T00:00:00Z."""
    return None if milliseconds is None else EPOCH + milliseconds * _MILLISECOND


def dump_request(request: RunRequest) -> str:
    """Return a request as JSON in ASCII; NaN and lone surrogates come back from it unchanged."""
    return json.dumps(request.given(), sort_keys=True)


def dump_ended_request(request: RunRequest) -> str:
    """Return a request whose run has ended as JSON in ASCII, without what is secret in it."""
    return json.dumps(redact_content(request.given()), sort_keys=True)


def redact_requests(connection: Connection, run_ids: Sequence[str]) -> None:
    """Take what is secret out of the requests of runs that have ended.

    Args:
        connection: A transaction, which has locked the runs.
        run_ids: The runs.
    """
    statement = select(runs.c.run_id, runs.c.request).where(runs.c.run_id.in_(run_ids))
    for row in connection.execute(statement).all() if run_ids else ():
        kept = dump_ended_request(RunRequest(**json.loads(row.request)))
        if kept != row.request:
            of_run = update(runs).where(runs.c.run_id == row.run_id)
            connection.execute(of_run.values(request=kept))


def hash_request(request: RunRequest) -> str:
    """Return what two requests for the same have in common: SHA-256, in hexadecimal."""
    return hashlib.sha256(dump_request(request).encode()).hexdigest()


def dump_error(error: ErrorDetail | None) -> str | None:
    """Return an error as JSON in ASCII."""
    return None if error is None else json.dumps(asdict(error))


FORSAKEN = ErrorDetail(
    type="RunCancelled",
    message="The server stopped before the run started, and nobody waits for it any more.",
)


def cancelled(finished_at: Any, error: ErrorDetail) -> dict[str, Any]:
    """Return what a row becomes whose run is cancelled before it started.

    Args:
        finished_at: When, an expression of SQL.
        error: Why.
    """
    return {
        "status": RunStatus.CANCELLED,
        "finished_at": finished_at,
        "duration_ms": 0,
        "error": dump_error(error),
    }


def ascii_name(name: str) -> str:
    r"""Return a name as any database takes it, ``"\ud800"`` and ``"\0"`` in it escaped."""
    return json.dumps(name)[1:-1]


def load_run(row: Any, position: int | None = None) -> Run:
    """Return the run of a row of `schema.runs`.

    Args:
        row: The row, whose columns are its attributes.
        position: Its place in the queue.
    """
    return make_run(
        row,
        request=RunRequest(**json.loads(row.request)),
        error=None if row.error is None else ErrorDetail(**json.loads(row.error)),
        position=position,
    )


def make_run(
    row: Any, *, request: RunRequest, error: ErrorDetail | None, position: int | None = None
) -> Run:
    """Return the run of a row, whose JSON has been read.

    Args:
        row: Has the other columns of `schema.runs`.
        request: Its request.
        error: Its error.
        position: Its place in the queue.
    """
    return Run(
        run_id=row.run_id,
        project=row.project,
        env=row.env,
        status=RunStatus(row.status),
        request=request,
        created_at=time_of(row.run_id),
        started_at=from_ms(row.started_at),
        finished_at=from_ms(row.finished_at),
        duration_ms=row.duration_ms,
        cancel_requested_at=from_ms(row.cancel_requested_at),
        progress=_load_progress(row),
        error=error,
        submitted_by=row.submitted_by or None,
        position=position,
    )


def _load_progress(row: Any) -> Progress | None:
    if row.nodes_done is None or row.nodes_total is None:
        return None
    return Progress(done=row.nodes_done, total=row.nodes_total)
