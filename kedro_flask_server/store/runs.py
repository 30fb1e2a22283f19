"""The runs of one project and environment: how they end, and access to all parts of the store."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, select, update

from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import (
    ACTIVE,
    ANONYMOUS,
    CANCELLED_IN_QUEUE,
    Run,
    RunOutcome,
    RunRequest,
    RunStatus,
    Submitter,
)
from kedro_flask_server.model.run_id import is_run_id, time_of
from kedro_flask_server.store import rows
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.calls import CallStore
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import (
    EventStore,
    PendingEvents,
    add_rows,
    append_cancelled,
    append_event,
    ended_with,
    newest_id,
    rows_of,
)
from kedro_flask_server.store.new_runs import NewRuns
from kedro_flask_server.store.prepared import Prepared
from kedro_flask_server.store.promotions import PromotionStore
from kedro_flask_server.store.provenance import ProvenanceRow, provenance_row, put_provenance
from kedro_flask_server.store.queue import RunQueue
from kedro_flask_server.store.queue_control import QueueControl
from kedro_flask_server.store.retention import SPARED_S, Retention
from kedro_flask_server.store.rule_retries import retry_by_rule
from kedro_flask_server.store.run_data import OutputsRow, RunDataStore, outputs_row, put_outputs
from kedro_flask_server.store.run_queries import RunQueries
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import now_ms, now_or, runs
from kedro_flask_server.store.servers import ServerStore
from kedro_flask_server.store.statements import Statements
from kedro_flask_server.store.turns import Turns, release
from kedro_flask_server.store.warnings import add_warning

_IS_EXECUTED = update(runs).where(
    runs.c.run_id == bindparam("of"),
    runs.c.status == RunStatus.RUNNING,
    runs.c.owner == bindparam("by"),
)
_END = ("status", "duration_ms", "finished_at", "error", "request")
_FINISH = Prepared(_IS_EXECUTED, changes=_END)
_FINISH_COUNTED = Prepared(_IS_EXECUTED, changes=(*_END, "nodes_done", "nodes_total"))
_NOTED = Prepared(
    select(runs.c.cancel_requested_at, runs.c.warnings, runs.c.locks_digest).where(
        runs.c.run_id == bindparam("of")
    )
)


class RunStore(RunQueries):
    """Runs, as rows; each change of a run's status is one conditional UPDATE.

    Every method, including those of its parts, raises `StoreUnavailableError` if the database
    cannot be reached or written, within five seconds.

    Attributes:
        new_runs: Stores admitted runs.
        queue: The queued runs.
        queue_control: The limits and pauses of the queue.
        events: The events of runs.
        data: The data of runs.
        calls: Records calls of served pipelines.
        promotions: What served pipelines were asked to load.
        servers: The servers that execute runs.
    """

    def __init__(self, database: Database, *, project: str, env: str) -> None:
        """Store the runs of a project and environment in a database.

        Args:
            database: The database, which others may share.
            project: The project's name.
            env: The configuration environment.
        """
        scope = RunScope(project, env)
        super().__init__(database, scope)
        self._trail = AuditTrail(project=project, env=env)
        self._retention = Retention(database, project=project, env=env)
        self._turns = Turns(database, scope)
        self._statements = None if database.is_sqlite else Statements(database, scope)
        self.new_runs = NewRuns(database, scope, self, self._statements)
        self.queue = RunQueue(database, scope, self._statements)
        self.queue_control = QueueControl(database, scope)
        self.servers = ServerStore(database)
        self.events = EventStore(database)
        self.data = RunDataStore(database, scope)
        self.calls = CallStore(database, scope)
        self.promotions = PromotionStore(database, scope)

    @property
    def scope(self) -> RunScope:
        """The project and environment of its runs."""
        return self._scope

    @property
    def is_local(self) -> bool:
        """Whether it is reachable only from one machine."""
        return self._database.is_sqlite

    @property
    def generation(self) -> int:
        """How often its file was replaced."""
        return self._database.generation

    def open(self) -> None:
        """Create the tables, or migrate them.

        Raises:
            ServerSettingsError: If the database cannot be used at all.
        """
        self._database.open()

    def tidy(self) -> None:
        """Do the database's periodic maintenance, while others use it."""
        self._database.tidy()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def finish(self, run: Run, outcome: RunOutcome, told: PendingEvents) -> Run | None:
        """Record the end of a run, with its pending events.

        A run that has already ended, because its server was reaped, keeps its status; the outcome
        becomes an event. Its request is stored without secrets.

        Args:
            run: The run, as claimed.
            outcome: Its outcome.
            told: The server that executed it, and its pending events.

        Returns:
            The run as it is now; None if it has ended otherwise.
        """
        error, kept = rows.dump_error(outcome.error), rows.dump_ended_request(run.request)
        request = RunRequest(**json.loads(kept))
        progress, run_id = told.progress, run.run_id
        what, new = ended_with(outcome, progress), rows_of(run_id, told.events)
        record = provenance_row(run_id, told.provenance, told.summary)
        kept_data = outputs_row(run_id, run.request, told.outputs)
        ended = self._finish_at_once(
            run, outcome, told, record, kept_data=kept_data, error=error, kept=kept
        )
        if ended is not None:
            return ended
        with self._database.writing() as connection:
            self._turns.lock(connection)
            started_at = run.started_at or run.created_at
            finished_at = max(self._database.now_ms(connection), rows.to_ms(started_at))
            change = {
                "status": outcome.status,
                "duration_ms": outcome.duration_ms,
                "finished_at": finished_at,
                "error": error,
                "request": kept,
            }
            finish = _FINISH
            if progress is not None:
                finish = _FINISH_COUNTED
                change |= {"nodes_done": progress.done, "nodes_total": progress.total}
            of_run = {"of": run_id, "by": told.server_id}
            if finish.changed(connection, {**of_run, **change}):
                last_id = told.events[-1].id if told.events else told.last_id
                if last_id is None:
                    last_id = newest_id(connection, run_id)
                kind = EventType.RUN_FINISHED.value
                last = (run_id, last_id + 1, finished_at, kind, json.dumps(what))
                add_rows(self._database, connection, [*new, last])
                put_provenance(self._database, connection, [record])
                put_outputs(self._database, connection, kept_data)
                rows.redact_pipelines(connection, run_id, run.request, request)
                if run.retry_rule is not None and outcome.status is RunStatus.FAILURE:
                    sent = rows.dump_request(run.request)
                    retry_by_rule(self._database, connection, run_id, sent, outcome.errors)
                [noted] = _NOTED.rows(connection, {"of": run_id})
                if noted.locks_digest is not None:  # for no other run does anyone wait
                    release(connection, [run_id])
                asked_at, warnings = noted.cancel_requested_at, noted.warnings
                return _ended(run, outcome, told, (kept, finished_at, asked_at, warnings))
            row = self._row(connection, run_id)
            if row is None:
                return None
            stored = (row.owner, row.status, row.duration_ms, row.error)
            if stored == (told.server_id, outcome.status, outcome.duration_ms, error):
                return rows.load_run(row)  # stored by an earlier attempt, whose response was lost
            late = {**what, "is_late": True}
            append_event(connection, [run_id], EventType.RUN_FINISHED, now_ms(), late)
            return None

    def _finish_at_once(
        self,
        run: Run,
        outcome: RunOutcome,
        pending: PendingEvents,
        record: ProvenanceRow,
        *,
        kept_data: OutputsRow,
        error: str | None,
        kept: str,
    ) -> Run | None:
        """Record the end of a run in one round trip; None if the row does not allow it."""
        if self._statements is None:
            return None
        if run.retry_rule is not None and outcome.status is RunStatus.FAILURE:
            return None  # which may have to be retried
        if rows.pipeline_names(run.request) != rows.pipeline_names(RunRequest(**json.loads(kept))):
            return None  # whose pipelines must be redacted, too
        progress = pending.progress
        ended = self._statements.finish(
            rows_of(run.run_id, pending.events),
            run_id=run.run_id,
            owner=pending.server_id,
            status=outcome.status.value,
            duration_ms=outcome.duration_ms,
            started_at=rows.to_ms(run.started_at or run.created_at),
            error=error,
            request=kept,
            nodes_done=None if progress is None else progress.done,
            nodes_total=None if progress is None else progress.total,
            last_id=pending.events[-1].id if pending.events else pending.last_id,
            what=json.dumps(ended_with(outcome, progress)),
            made_of=record[1],
            summary=record[2],
            returned_folder=kept_data.returned_folder,
            outputs=kept_data.outputs,
            stored_bytes=kept_data.stored_bytes,
        )
        return None if ended is None else _ended(run, outcome, pending, (kept, *ended))

    def add_warning(self, run_id: str, text: str) -> None:
        """Add a warning to a run, unless it has it or has many."""
        with self._database.writing() as connection:
            add_warning(connection, run_id, text)

    def request_cancel(self, run_id: str, by: Submitter = ANONYMOUS) -> Run | None:
        """Cancel a queued run; request the cancellation of a running one.

        Args:
            run_id: The run.
            by: The caller who cancels it.

        Returns:
            The run as it is now; None if there is no such run.
        """
        error = CANCELLED_IN_QUEUE
        is_run = (*self._scope.is_of_run, runs.c.run_id == run_id)
        if not is_run_id(run_id):
            return None
        with self._database.writing() as connection:
            self._turns.lock(connection)
            row = connection.execute(select(runs).where(*is_run).with_for_update()).one_or_none()
            if row is None:
                return None
            now = now_or(rows.to_ms(time_of(run_id)))
            change: dict[str, Any] = {}
            if row.status in ACTIVE and row.cancel_requested_at is None:
                change["cancel_requested_at"] = now
            if row.status == RunStatus.QUEUED:
                change |= rows.cancelled(now, error)
            if change:
                is_as_seen = runs.c.status == row.status
                connection.execute(update(runs).where(*is_run, is_as_seen).values(change))
            if "cancel_requested_at" in change:
                record = AuditRecord.of(by.name, "run.cancelled", run_id, address=by.address)
                self._trail.add(self._database, connection, record)
            if row.status == RunStatus.QUEUED:
                rows.redact_requests(connection, [run_id])
                append_cancelled(connection, [run_id], error)
                release(connection, [run_id])
            return rows.load_run(connection.execute(select(runs).where(*is_run)).one())

    def cancel_unclaimed(self, run_id: str) -> bool:
        """Cancel a queued run whose client no longer waits.

        Returns:
            Whether it was queued.
        """
        with self._database.writing() as connection:
            self._turns.lock(connection)
            queued = (runs.c.run_id == run_id, runs.c.status == RunStatus.QUEUED)
            change = rows.cancelled(now_or(rows.to_ms(time_of(run_id))), rows.UNCLAIMED)
            result = connection.execute(update(runs).where(*queued).values(change))
            is_cancelled = result.rowcount == 1
            if is_cancelled:
                rows.redact_requests(connection, [run_id])
                append_cancelled(connection, [run_id], rows.UNCLAIMED)
                release(connection, [run_id])
            return is_cancelled

    def purge(
        self, *, keep_runs: int, keep_days: float, key_hours: float, spared_s: float = SPARED_S
    ) -> bool:
        """Delete some of the runs beyond the limits, as `Retention.purge` does."""
        return self._retention.purge(
            keep_runs=keep_runs, keep_days=keep_days, key_hours=key_hours, spared_s=spared_s
        )


def _ended(
    run: Run,
    outcome: RunOutcome,
    pending: PendingEvents,
    stored: tuple[str, int, int | None, str | None],
) -> Run:
    """Return an ended run, with what is stored: request, end, requested cancellation, warnings."""
    kept, finished_at, asked_at, warnings = stored
    return replace(
        run,
        cancel_requested_at=rows.from_ms(asked_at),
        status=outcome.status,
        request=RunRequest(**json.loads(kept)),
        finished_at=rows.from_ms(finished_at),
        duration_ms=outcome.duration_ms,
        progress=pending.progress or run.progress,
        error=outcome.error,
        warnings=tuple(json.loads(warnings)) if warnings else (),
    )
