"""Conversion between rows of the store and the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from kedro_flask_server.model.queue import WaitingFor, WaitReason
from kedro_flask_server.model.retry_rule import RetryRule
from kedro_flask_server.model.run import ErrorDetail, Progress, Run, RunRequest, RunStatus
from kedro_flask_server.model.run_id import EPOCH, time_of
from kedro_flask_server.redaction import SECRETS, redact_request
from kedro_flask_server.store.schema import run_pipelines, runs

_MILLISECOND = timedelta(milliseconds=1)

# Per run; more than a project has, and few enough to write.
_MAX_PIPELINES = 1_000
_MAX_NAME_CHARS = 255

OTHERS = "…"
"""Stands for further pipelines, in the store and in a list: stored names are ASCII."""


def to_ms(moment: datetime) -> int:
    """Return a UTC time as whole milliseconds since 1970-01-01T00:00:00Z."""
    return (moment - EPOCH) // _MILLISECOND


def from_ms(milliseconds: int | None) -> datetime | None:
    """Return the UTC time of a number of milliseconds since 1970-01-01T00:00:00Z."""
    return None if milliseconds is None else EPOCH + milliseconds * _MILLISECOND


def dump_request(request: RunRequest) -> str:
    """Return a request as JSON in ASCII.

    It preserves NaN, lone surrogates and the order of parameters: a run executes what is stored,
    and a mapping may define the order of columns.
    """
    return json.dumps(request.given())


def dump_ended_request(request: RunRequest) -> str:
    """Return the request of an ended run as JSON in ASCII, without secrets."""
    # A server that has just started may end runs of another before it knows the pipelines' names.
    are_names_plain = not SECRETS.knows_pipelines
    kept = redact_request(request.given(), are_names_plain=are_names_plain)
    return json.dumps(kept)


def pipeline_names(request: RunRequest) -> list[str]:
    """Return the pipelines of a request as stored in `schema.run_pipelines`."""
    names = dict.fromkeys(ascii_name(name) for name in request.pipelines[:_MAX_PIPELINES])
    kept = [name for name in names if len(name) <= _MAX_NAME_CHARS]
    is_whole = len(kept) == len(set(request.pipelines))  # permissions depend on all names
    return kept if is_whole else [*kept, OTHERS]


def redact_requests(connection: Connection, run_ids: Sequence[str]) -> None:
    """Redact the requests of runs that have ended.

    Args:
        connection: A transaction, which has locked the runs.
        run_ids: The runs.
    """
    statement = select(runs.c.run_id, runs.c.request).where(runs.c.run_id.in_(run_ids))
    for row in connection.execute(statement).all() if run_ids else ():
        request = RunRequest(**json.loads(row.request))
        kept = dump_ended_request(request)
        if kept != row.request:
            of_run = update(runs).where(runs.c.run_id == row.run_id)
            connection.execute(of_run.values(request=kept))
            redact_pipelines(connection, row.run_id, request, RunRequest(**json.loads(kept)))


def redact_pipelines(
    connection: Connection, run_id: str, request: RunRequest, kept: RunRequest
) -> None:
    """Remove secrets that a run's request named as pipelines.

    Args:
        connection: A transaction, which has locked the run.
        run_id: The run.
        request: The original request.
        kept: The redacted request.
    """
    names = pipeline_names(kept)
    if names != pipeline_names(request):
        connection.execute(delete(run_pipelines).where(run_pipelines.c.run_id == run_id))
        values = [{"run_id": run_id, "pipeline": name} for name in names]
        connection.execute(insert(run_pipelines), values)


def dump_labels(labels: Mapping[str, str]) -> str | None:
    """Return labels as JSON in ASCII; None if there are none."""
    return json.dumps(dict(labels)) if labels else None


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hash_request(request: RunRequest) -> str:
    """Return the SHA-256 of a request, in hexadecimal, equal for equivalent requests.

    The order of an object's members is insignificant (RFC 8259, section 4), and was so for hashes
    that are already stored.
    """
    given = request.given()
    if request.data is not None:  # where it lies differs each time
        given["data"] = {**request.data, "folder": None}
    return hash_text(json.dumps(given, sort_keys=True))


def dump_error(error: ErrorDetail | None) -> str | None:
    """Return an error as JSON in ASCII."""
    return None if error is None else json.dumps(error.dump())


UNCLAIMED = ErrorDetail(
    type="RunCancelled",
    message="The server stopped before the run started, and its client waits no more.",
)


def ended_in_queue(finished_at: Any, status: RunStatus, error: ErrorDetail) -> dict[str, Any]:
    """Return the new values of a row whose run ends before it has started.

    Args:
        finished_at: Its end, an SQL expression.
        status: Its final status.
        error: Why.
    """
    return {
        "status": status,
        "finished_at": finished_at,
        "duration_ms": 0,
        "error": dump_error(error),
        "blocked_on": None,
        "waiting_for": None,
    }


def cancelled(finished_at: Any, error: ErrorDetail) -> dict[str, Any]:
    """Return the new values of a row whose run is cancelled before it started."""
    return ended_in_queue(finished_at, RunStatus.CANCELLED, error)


def ascii_name(name: str) -> str:
    r"""Return a name that any database accepts, with ``"\ud800"`` and ``"\0"`` in it escaped."""
    return json.dumps(name)[1:-1]


def load_run(row: Any, position: int | None = None) -> Run:
    """Return the run of a row of `schema.runs`.

    Args:
        row: The row, with columns as attributes.
        position: Its position in the queue.
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
    """Return the run of a row whose JSON is already parsed.

    Args:
        row: The other columns of `schema.runs`.
        request: Its request.
        error: Its error.
        position: Its position in the queue.
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
        priority=row.priority,
        waiting_for=load_waiting_for(row.status, row.waiting_for),
        locks_digest=row.locks_digest,
        warnings=tuple(json.loads(row.warnings)) if row.warnings else (),
        labels=json.loads(row.labels) if row.labels else {},
        retry_of=row.retry_of,
        retried_by=row.retried_by,
        attempt=row.attempt,
        retry_rule=RetryRule.load(row.retry_rule) if row.retry_rule else None,
    )


def load_waiting_for(status: str, dumped: str | None) -> WaitingFor | None:
    """Return what a run waits for; None once it is no longer queued.

    Args:
        status: Its status.
        dumped: What it waits for beside a slot, as stored.
    """
    if status != RunStatus.QUEUED:
        return None
    if dumped is None:
        return WaitingFor(reason=WaitReason.SLOT)
    return WaitingFor.load(json.loads(dumped))


def _load_progress(row: Any) -> Progress | None:
    if row.nodes_done is None or row.nodes_total is None:
        return None
    return Progress(done=row.nodes_done, total=row.nodes_total)
