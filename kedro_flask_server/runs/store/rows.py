"""Rows of the store and what they stand for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from kedro_flask_server.runs.ids import EPOCH, time_of
from kedro_flask_server.runs.model import ErrorDetail, Progress, Run, RunRequest, RunStatus

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


def load_run(row: Row[Any], position: int | None = None) -> Run:
    """Return the run of a row of `schema.runs`.

    Args:
        row: The row.
        position: Its place in the queue.
    """
    return Run(
        run_id=row.run_id,
        project=row.project,
        env=row.env,
        status=RunStatus(row.status),
        request=RunRequest(**json.loads(row.request)),
        created_at=time_of(row.run_id),
        started_at=from_ms(row.started_at),
        finished_at=from_ms(row.finished_at),
        duration_ms=row.duration_ms,
        cancel_requested_at=from_ms(row.cancel_requested_at),
        progress=_load_progress(row),
        error=None if row.error is None else ErrorDetail(**json.loads(row.error)),
        submitted_by=row.submitted_by or None,
        position=position,
    )


def _load_progress(row: Row[Any]) -> Progress | None:
    if row.nodes_done is None or row.nodes_total is None:
        return None
    return Progress(done=row.nodes_done, total=row.nodes_total)
