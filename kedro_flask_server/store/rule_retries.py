"""Stores the retries of runs whose rule asks for one, with the end of the run."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, insert, literal, select

from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.retry_rule import BREAKDOWNS, RetryRule
from kedro_flask_server.model.run import RunRequest, RunStatus
from kedro_flask_server.model.run_id import RunIds, time_of
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.store import rows
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.chains import join_chain
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import add_rows
from kedro_flask_server.store.run_data import put_given
from kedro_flask_server.store.schema import run_labels, run_pipelines, runs
from kedro_flask_server.store.turns import delay_of
from kedro_flask_server.store.warnings import add_warning

_COPIED = (
    *("project", "env", "submitted_by", "submitted_from", "priority", "labels", "retry_rule"),
)

_BROKE_DOWN_TWICE = (
    "It is not retried by its rule (setting retries): it and the run before it in its chain were "
    "lost, or crashed."
)

_IDS = RunIds()


def retry_by_rule(
    database: Database,
    connection: Connection,
    run_id: str,
    request: str,
    errors: Collection[str],
) -> str | None:
    """Store a retry of a run that ends in this transaction, if its rule asks for one.

    Args:
        database: The database.
        connection: A transaction that has locked the turns of runs, and where the run has ended.
        run_id: The run.
        request: Its request as it was sent, as stored.
        errors: The name of its error's class, and of those above.

    Returns:
        The id of the retry; None if there is none.
    """
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).one()
    rule = None if row.retry_rule is None else RetryRule.load(row.retry_rule)
    if rule is None or row.cancel_requested_at is not None or not rule.counts(row.attempt, errors):
        return None
    if not BREAKDOWNS.isdisjoint(errors) and _broke_down(connection, row.retry_of):
        add_warning(connection, run_id, _BROKE_DOWN_TWICE)
        return None
    return _add(database, connection, row, rule, request)


def _broke_down(connection: Connection, run_id: str | None) -> bool:
    found = connection.execute(select(runs.c.error).where(runs.c.run_id == run_id)).scalar()
    return found is not None and json.loads(found).get("type") in BREAKDOWNS


def _add(
    database: Database, connection: Connection, row: Any, rule: RetryRule, request: str
) -> str:
    SECRETS.keep_those_in(request)
    run_id = _free_id(connection)
    created_at = rows.to_ms(time_of(run_id))
    not_before = max(created_at, database.now_ms(connection)) + rule.delay_ms()
    delay = delay_of(not_before).values()
    values = {
        **{name: getattr(row, name) for name in _COPIED},
        **join_chain(connection, run_id, row.run_id),
        "run_id": run_id,
        "status": RunStatus.QUEUED.value,
        "request": request,
        "not_before": not_before,
        **delay,
        "queue_ends_at": _queue_ends_at(row, not_before),
    }
    connection.execute(insert(runs).values(values))
    for table in (run_pipelines, run_labels):
        names = [column.name for column in table.c]
        others = [column for column in table.c if column.name != "run_id"]
        copied = select(literal(run_id), *others).where(table.c.run_id == row.run_id)
        connection.execute(insert(table).from_select(names, copied))
    put_given(database, connection, run_id, RunRequest(**json.loads(request)))
    queued = (run_id, 1, created_at, EventType.RUN_QUEUED.value, "{}")
    waiting = (run_id, 2, created_at, EventType.RUN_WAITING.value, delay["waiting_for"])
    add_rows(database, connection, [queued, waiting])
    trail = AuditTrail(project=row.project, env=row.env)
    trail.add(database, connection, AuditRecord.of(row.submitted_by, "run.retried", run_id))
    return run_id


def _free_id(connection: Connection) -> str:
    while True:
        run_id = _IDS.next()
        taken = select(runs.c.run_id).where(runs.c.run_id == run_id)
        if connection.execute(taken).first() is None:
            return run_id


def _queue_ends_at(row: Any, not_before: int) -> int | None:
    """Return when a retry has waited for its turn for as long as its run might have."""
    if row.queue_ends_at is None:
        return None
    return not_before + int(row.queue_ends_at) - rows.to_ms(time_of(row.run_id))
