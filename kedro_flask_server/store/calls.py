"""Calls of served pipelines, recorded as runs once they have ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import Run, RunRequest, Submitter
from kedro_flask_server.store import rows
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import PendingEvents, add_rows, ended, rows_of
from kedro_flask_server.store.provenance import provenance_row, put_provenance
from kedro_flask_server.store.run_data import outputs_row, put_given, put_outputs
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import run_labels, run_pipelines, runs

FIRST_EVENTS = 2
"""How many events a call has before those of its nodes: ``run.queued`` and ``run.started``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCall:
    """A call that has ended.

    Attributes:
        run: The same as a run, as it is to be stored.
        told: What it has told, its events numbered from `FIRST_EVENTS` + 1.
        submitter: The caller.
        folder: The folder of what it has returned.
    """

    run: Run
    told: PendingEvents
    submitter: Submitter
    folder: str


class CallStore:
    """Records the calls of one project and environment."""

    def __init__(self, database: Database, scope: RunScope) -> None:
        """Record them in a database."""
        self._database = database
        self._scope = scope
        self._trail = AuditTrail(project=scope.project, env=scope.env)

    def add(self, call: EndedCall, next_id: Callable[[], str]) -> Run:
        """Record a call, in one transaction.

        Args:
            call: The call.
            next_id: Returns another id, where its own is taken by now.

        Returns:
            The run, with the id under which it is stored.
        """
        while True:
            try:
                self._add(call)
            except IntegrityError:
                if not self._is_taken(call.run.run_id):
                    raise
                call = replace(call, run=replace(call.run, run_id=next_id()))
            else:
                return call.run

    def _add(self, call: EndedCall) -> None:
        run, database = call.run, self._database
        request = RunRequest(**json.loads(rows.dump_ended_request(run.request)))
        record = provenance_row(run.run_id, call.told.provenance, call.told.summary)
        outputs = outputs_row(run.run_id, run.request, call.told.outputs)
        if outputs.returned_folder is not None:
            outputs = outputs._replace(returned_folder=call.folder)
        values = self._row(call)
        names = [(run.run_id, name) for name in rows.pipeline_names(request)]
        labels = [(run.run_id, name, rows.ascii_name(value)) for name, value in run.labels.items()]
        submitted = AuditRecord.of(
            call.submitter.name, "run.submitted", run.run_id, address=call.submitter.address
        )
        with database.writing() as connection:
            self._trail.add(database, connection, submitted)
            database.insert(connection, runs, [*values], [tuple(values.values())])
            database.insert(connection, run_pipelines, ("run_id", "pipeline"), names)
            database.insert(connection, run_labels, ("run_id", "name", "value"), labels)
            put_given(database, connection, run.run_id, run.request)
            add_rows(database, connection, self._events(call))
            put_provenance(database, connection, [record])
            put_outputs(database, connection, outputs)

    def _row(self, call: EndedCall) -> dict[str, Any]:
        run, progress = call.run, call.run.progress
        return {
            "run_id": run.run_id,
            **self._scope.values,
            "status": run.status.value,
            "request": rows.dump_ended_request(run.request),
            "submitted_by": call.submitter.name,
            "submitted_from": call.submitter.address[:100] or None,
            "labels": rows.dump_labels(run.labels),
            "priority": run.priority,
            "started_at": _ms(run.started_at),
            "finished_at": _ms(run.finished_at),
            "duration_ms": run.duration_ms,
            "error": rows.dump_error(run.error),
            "nodes_done": None if progress is None else progress.done,
            "nodes_total": None if progress is None else progress.total,
            "warnings": json.dumps([*run.warnings]) if run.warnings else None,
        }

    def _events(self, call: EndedCall) -> list[Any]:
        run = call.run
        new = rows_of(run.run_id, call.told.events)
        last_id = call.told.events[-1].id if call.told.events else FIRST_EVENTS
        numbers = {} if run.progress is None else asdict(run.progress)
        what = {**ended(run.status, run.duration_ms, run.error), **numbers}
        return [
            (run.run_id, 1, _ms(run.created_at), EventType.RUN_QUEUED.value, "{}"),
            (run.run_id, 2, _ms(run.started_at), EventType.RUN_STARTED.value, "{}"),
            *new,
            (
                run.run_id,
                last_id + 1,
                _ms(run.finished_at),
                EventType.RUN_FINISHED.value,
                json.dumps(what),
            ),
        ]

    def _is_taken(self, run_id: str) -> bool:
        with self._database.reading() as connection:
            found = select(runs.c.run_id).where(runs.c.run_id == run_id)
            return connection.execute(found).first() is not None


def _ms(moment: datetime | None) -> int:
    assert moment is not None  # noqa: S101  it has ended
    return rows.to_ms(moment)
