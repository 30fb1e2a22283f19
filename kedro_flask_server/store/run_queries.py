"""Reads the runs of one project and environment."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import timedelta
from heapq import merge
from typing import Any

from sqlalchemy import Connection, Select, func, select

from kedro_flask_server.model.event import EventPage, EventType
from kedro_flask_server.model.idempotency_key import is_key
from kedro_flask_server.model.run import ACTIVE, Run, RunFilter, RunPage, RunPart, RunStatus
from kedro_flask_server.model.run_id import EPOCH, is_run_id, run_id_at
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import events_after
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import run_pipelines, runs
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
        is_before = runs.c.run_id < row.run_id
        return 1 + self._scope.count(connection, runs.c.status == RunStatus.QUEUED, is_before)

    def _positions(self, connection: Connection) -> dict[str, int]:
        statement = (
            select(runs.c.run_id)
            .where(*self._scope.is_of_run, runs.c.status == RunStatus.QUEUED)
            .order_by(runs.c.run_id)
        )
        queued = connection.execute(statement).scalars()
        return {run_id: position for position, run_id in enumerate(queued, 1)}

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
