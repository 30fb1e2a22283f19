"""Reads the runs of one project and environment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import merge
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from kedro_flask_server.model.event import Event, EventPage, EventType
from kedro_flask_server.model.idempotency_key import is_key
from kedro_flask_server.model.provenance import RunRecord, RunSummary
from kedro_flask_server.model.run import ACTIVE, Run, RunFilter, RunPage, RunPart, RunStatus
from kedro_flask_server.model.run_id import EPOCH, is_run_id, run_id_at
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import events_after, log_records, newest_event
from kedro_flask_server.store.run_records import read_record
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import (
    IS_QUEUED,
    queues,
    run_labels,
    run_pipelines,
    run_provenance,
    runs,
)
from kedro_flask_server.store.summaries import read_summaries, size_of

# The size of a page, in characters: requests are up to `max_body_bytes` each.
_MAX_PAGE_CHARS = 1_000_000

_MICROSECOND = timedelta(microseconds=1)


class RunQueries:
    """Queries for runs; every method may raise `StoreUnavailableError`, within five seconds."""

    def __init__(self, database: Database, scope: RunScope) -> None:
        """Read the runs of a scope.

        Args:
            database: The database, which others may share.
            scope: The project and environment.
        """
        self._database = database
        self._scope = scope

    def get(self, run_id: str) -> Run | None:
        """Return a run; None if there is no such run in this project and environment."""
        if not is_run_id(run_id):  # databases reject some characters
            return None
        with self._database.reading() as connection:
            row = self._row(connection, run_id)
            return None if row is None else self.load(connection, row)

    def record(self, run_id: str) -> RunRecord | None:
        """Return what is stored of a run beside its row; None if there is no such run."""
        if not is_run_id(run_id):
            return None
        with self._database.reading() as connection:
            found = self._row(connection, run_id)
            return None if found is None else read_record(connection, run_id)

    def event_page(
        self, run_id: str, *, after: int, limit: int, kind: EventType | None
    ) -> EventPage | None:
        """Return a page of a run's events; None if there is no such run.

        Args:
            run_id: The run.
            after: The id after which they begin.
            limit: The maximum number of events.
            kind: Events of this type; None for all.
        """
        if not is_run_id(run_id):
            return None
        status = select(runs.c.status).where(*self._scope.is_of_run, runs.c.run_id == run_id)
        with self._database.reading() as connection:
            # The status first: once a run has ended, all its events are stored.
            found = connection.execute(status).scalar()
            if found is None:
                return None
            some = events_after(connection, run_id, after, limit + 1, kind)
        # It may have ended between the two statements, which PostgreSQL does not see as one.
        has_ended = RunStatus(found).is_final or any(
            event.type == EventType.RUN_FINISHED for event in some
        )
        is_last = has_ended and len(some) <= limit
        newest = some[:limit][-1].id if some else after
        return EventPage(events=some[:limit], next=None if is_last else newest)

    def log_records(self, run_id: str, *, before: int | None = None, limit: int) -> list[Event]:
        """Return the last of a run's log records, as `store.events.log_records` does."""
        with self._database.reading() as connection:
            return log_records(connection, run_id, before=before, limit=limit)

    def newest_event(self, run_id: str) -> Event | None:
        """Return a run's newest event; None if it has none."""
        if not is_run_id(run_id):
            return None
        with self._database.reading() as connection:
            return newest_event(connection, run_id)

    def oldest_active(self) -> str | None:
        """Return the id of the oldest run that has not ended; None if all have."""
        found = select(func.min(runs.c.run_id)).where(*self._scope.is_of_run)
        with self._database.reading() as connection:
            oldest = [
                connection.execute(found.where(runs.c.status == each)).scalar() for each in ACTIVE
            ]
        return min(filter(None, oldest), default=None)

    def ended_among(self, run_ids: Collection[str]) -> list[str]:
        """Return the ended runs among some runs."""
        if not run_ids:
            return []
        statement = select(runs.c.run_id).where(
            runs.c.run_id.in_(run_ids), runs.c.status.not_in(ACTIVE)
        )
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())

    def executing(self) -> list[str]:
        """Return the ids of all runs that execute, in any project and environment."""
        statement = select(runs.c.run_id).where(runs.c.status == RunStatus.RUNNING)
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())

    def statuses(self, run_ids: Sequence[str], started_at: datetime) -> dict[str, str]:
        """Return the statuses of runs, in any project and environment, by their ids.

        Args:
            run_ids: The runs; those that there are not are left out. One whose chain of retries has
                succeeded counts as such.
            started_at: Those that have started later count as ``running``.
        """
        is_later = runs.c.started_at > rows.to_ms(started_at)
        newest = runs.alias("newest")
        chain = runs.outerjoin(newest, newest.c.run_id == runs.c.retried_by)
        # What a run has saved that a retry of it went on with is whole.
        has_succeeded = newest.c.status == RunStatus.SUCCESS
        status = case((has_succeeded, RunStatus.SUCCESS.value), else_=runs.c.status)
        statement = select(runs.c.run_id, status, is_later).select_from(chain)
        statement = statement.where(runs.c.run_id.in_(run_ids))
        with self._database.reading() as connection:
            found = connection.execute(statement).all()
        return {run_id: "running" if later else status for run_id, status, later in found}

    def has_key(self, key: str, submitter: str) -> bool:
        """Return whether a submitter has submitted a run with a key."""
        if not is_key(key):  # databases reject some characters
            return False
        is_sent = (runs.c.submitted_by == submitter, runs.c.idempotency_key == key)
        statement = select(runs.c.run_id).where(*self._scope.is_of_run, *is_sent)
        with self._database.reading() as connection:
            return connection.execute(statement).first() is not None

    def page(
        self,
        wanted: RunFilter,
        *,
        limit: int,
        cursor: str | None,
        include: Collection[RunPart] = (),
    ) -> RunPage:
        """Return summaries of runs, the newest first.

        Args:
            wanted: Which runs.
            limit: The maximum number of runs; fewer are returned if they are large.
            cursor: The cursor after the previous page; None for the first.
            include: What to add to summaries: requests, of which a summary has the pipelines alone;
                tracebacks, and with them uncut messages.

        Returns:
            A page. New runs do not shift later pages.
        """
        if wanted.idempotency_key is not None and not is_key(wanted.idempotency_key):
            return RunPage(runs=[], next=None)  # databases reject some characters
        matching = self._matching(wanted, cursor, include).limit(limit + 1)
        # One query per status finds the newest in its index; one for several would sort all.
        states = dict.fromkeys(wanted.statuses)
        queries = [matching.where(runs.c.status == each) for each in states] or [matching]
        with self._database.reading() as connection:
            # Row by row: SQLite reads a text to determine its size.
            found = [connection.execute(query) for query in queries]
            newest = merge(*found, key=lambda row: row.run_id, reverse=True)
            run_ids, has_more = _fitting(newest, limit)
            for each in found:
                each.close()
            shown = read_summaries(connection, run_ids, include)
            positions = self._positions(connection) if _has_queued(shown) else {}
        return RunPage(
            runs=[
                replace(run, position=positions[run.run_id]) if run.run_id in positions else run
                for run in shown
            ],
            next=run_ids[-1] if has_more else None,
        )

    def _matching(
        self, wanted: RunFilter, cursor: str | None, include: Collection[RunPart]
    ) -> Select[Any]:
        """Return the query for the ids that match a filter, except its status, the newest first.

        Each has the size of what is included: drivers read all that a query finds.
        """
        found = (runs.c.run_id, size_of(include).label("size"))
        statement = select(*found).where(*self._scope.is_of_run)
        run_id = runs.c.run_id
        if wanted.pipeline is not None:
            if self._database.is_sqlite and not wanted.statuses:
                # Rows must be found by their pipeline: comparing with an expression keeps SQLite
                # from starting with the project.
                in_project = runs.c.project + "" == self._scope.project
                statement = select(*found).where(in_project, runs.c.env == self._scope.env)
                run_id = run_pipelines.c.run_id
            of_pipeline = run_pipelines.c.pipeline == rows.ascii_name(wanted.pipeline)
            statement = statement.join(run_pipelines).where(of_pipeline)
        if wanted.since is not None:
            # Ids have a resolution of milliseconds: the last one before that time is excluded.
            before = max(wanted.since, EPOCH) - _MICROSECOND
            statement = statement.where(run_id > run_id_at(before))
        if wanted.until is not None:
            statement = statement.where(run_id <= run_id_at(wanted.until))
        if wanted.submitted_by is not None:
            statement = statement.where(runs.c.submitted_by == wanted.submitted_by)
        if wanted.idempotency_key is not None:
            statement = statement.where(runs.c.idempotency_key == wanted.idempotency_key)
        for name, value in wanted.labels:
            is_label: tuple[Any, ...] = (
                run_labels.c.run_id == runs.c.run_id,
                run_labels.c.name == name,
            )
            if value is not None:
                is_label += (run_labels.c.value == rows.ascii_name(value),)
            statement = statement.where(select(1).where(*is_label).correlate(runs).exists())
        if not wanted.has_retried:
            statement = statement.where(runs.c.retried_by.is_(None))
        if wanted.within is not None:
            names = [rows.ascii_name(name) for name in wanted.within]
            others = select(1).where(
                run_pipelines.c.run_id == runs.c.run_id, run_pipelines.c.pipeline.not_in(names)
            )
            statement = statement.where(~others.correlate(runs).exists())
        if cursor is not None:
            statement = statement.where(run_id < cursor)
        return statement.order_by(run_id.desc())

    def load(self, connection: Connection, row: Any) -> Run:
        """Return the run of a row, with its position in the queue."""
        return rows.load_run(row, self._position(connection, row))

    def _row(self, connection: Connection, run_id: str) -> Any:
        statement = select(runs).where(*self._scope.is_of_run, runs.c.run_id == run_id)
        return connection.execute(statement).one_or_none()

    def _position(self, connection: Connection, row: Any) -> int | None:
        if row.status != RunStatus.QUEUED:
            return None
        is_before = (runs.c.priority == row.priority) & (runs.c.run_id < row.run_id)
        is_before |= runs.c.priority > row.priority
        return 1 + self._scope.count(connection, IS_QUEUED, is_before)

    def _positions(self, connection: Connection) -> dict[str, int]:
        statement = (
            select(runs.c.run_id)
            .where(*self._scope.is_of_run, IS_QUEUED)
            .order_by(runs.c.priority.desc(), runs.c.run_id)
        )
        queued = connection.execute(statement).scalars()
        return {run_id: position for position, run_id in enumerate(queued, 1)}

    def node_summaries(self, run_ids: Collection[str]) -> dict[str, RunSummary]:
        """Return what became of the nodes of runs that have ended, by the runs' ids.

        Args:
            run_ids: The runs; those without a stored summary are left out.
        """
        found = (run_provenance.c.run_id, run_provenance.c.summary)
        statement = select(*found).where(
            run_provenance.c.run_id.in_(run_ids), run_provenance.c.summary.is_not(None)
        )
        if not run_ids:
            return {}
        with self._database.reading() as connection:
            stored = connection.execute(statement).all()
        return {row.run_id: RunSummary.load(json.loads(row.summary)) for row in stored}

    def state_token(self) -> str:
        """Return a text that changes whenever a list of runs, or the queue, does."""
        here = self._scope.is_of_run
        columns = (
            *(runs.c.run_id, runs.c.nodes_done, runs.c.nodes_total),
            *(runs.c.cancel_requested_at, runs.c.blocked_on),
        )
        newest_end = func.coalesce(runs.c.counts_from, runs.c.finished_at)
        queue = (queues.c.project == self._scope.project, queues.c.env == self._scope.env)
        statements = [
            select(func.max(runs.c.run_id)).where(*here),
            select(*columns).where(*here, runs.c.status == RunStatus.RUNNING),
            select(
                func.count(),
                func.max(runs.c.run_id),
                func.min(runs.c.run_id),
                func.count(runs.c.blocked_on),
                func.max(runs.c.blocked_on),
            ).where(*here, IS_QUEUED),
            select(newest_end, runs.c.run_id)
            .where(*here, runs.c.finished_at.is_not(None))
            .order_by(newest_end.desc(), runs.c.run_id.desc())
            .limit(1),
            select(queues.c.paused, queues.c.limits).where(*queue),
        ]
        with self._database.reading() as connection:
            found = [[tuple(row) for row in connection.execute(each)] for each in statements]
        return hashlib.blake2b(repr(found).encode(), digest_size=12).hexdigest()

    def cancel_requests(self, server_id: str) -> list[str]:
        """Return the runs executing at a server whose cancellation is requested."""
        statement = select(runs.c.run_id).where(
            runs.c.status == RunStatus.RUNNING,
            runs.c.owner == server_id,
            runs.c.cancel_requested_at.is_not(None),
        )
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())


def _has_queued(found: Iterable[Run]) -> bool:
    return any(run.status is RunStatus.QUEUED for run in found)


def _fitting(found: Iterable[Any], limit: int) -> tuple[list[str], bool]:
    """Return the ids of one page, and whether there are more."""
    run_ids: list[str] = []
    size = 0
    for row in found:
        size += row.size
        if len(run_ids) == limit or (run_ids and size > _MAX_PAGE_CHARS):
            return run_ids, True
        run_ids.append(row.run_id)
    return run_ids, False
