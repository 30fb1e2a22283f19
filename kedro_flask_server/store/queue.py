"""The queue: the order of runs, and the claims on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, select, update

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import Run, RunStatus
from kedro_flask_server.model.run_id import time_of
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import add_rows, append_event
from kedro_flask_server.store.prepared import Prepared
from kedro_flask_server.store.run_scope import IN_SCOPE, RunScope
from kedro_flask_server.store.schema import events, now_ms, run_pipelines, runs, servers
from kedro_flask_server.store.statements import Statements

_IS_QUEUED = (*IN_SCOPE, runs.c.status == RunStatus.QUEUED)
_RUNNING_SUBMITTERS = select(runs.c.submitted_by).where(
    *IN_SCOPE, runs.c.status == RunStatus.RUNNING
)
_SERVER = Prepared(
    select(servers.c.server_id)
    .where(servers.c.server_id == bindparam("server_id"))
    .with_for_update(read=True)
)
_NEWEST_ID = (
    select(func.coalesce(func.max(events.c.id), 0))
    .where(events.c.run_id == runs.c.run_id)
    .correlate(runs)
    .scalar_subquery()
)
_TURN = select(runs, _NEWEST_ID.label("newest_id")).where(
    *_IS_QUEUED, runs.c.held_by.is_(None) | (runs.c.held_by == bindparam("server_id"))
)
_other = runs.alias("other")
_IN_OTHERS_SCOPE = (_other.c.project == bindparam("project"), _other.c.env == bindparam("env"))
_OLDEST = (
    _TURN.add_columns(
        exists()
        .where(
            *_IN_OTHERS_SCOPE,
            _other.c.status == RunStatus.RUNNING,
            _other.c.submitted_by == runs.c.submitted_by,
        )
        .correlate(runs)
        .label("has_running"),
        exists()
        .where(
            *_IN_OTHERS_SCOPE,
            _other.c.status == RunStatus.QUEUED,
            _other.c.submitted_by != runs.c.submitted_by,
        )
        .correlate(runs)
        .label("has_others"),
    )
    .order_by(runs.c.run_id)
    .limit(1)
)
_NEXT = Prepared(_OLDEST)
_CLAIM = Prepared(
    update(runs).where(runs.c.run_id == bindparam("of"), runs.c.status == RunStatus.QUEUED),
    changes=("status", "owner", "started_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """A run that a server has claimed from the queue.

    Attributes:
        run: The run, now running.
        event_id: The id of its newest event, that it has started.
    """

    run: Run
    event_id: int


class RunQueue:
    """The queued runs of one project and environment."""

    def __init__(
        self, database: Database, scope: RunScope, statements: Statements | None = None
    ) -> None:
        """Queue the runs of a scope.

        Args:
            database: The database.
            scope: The project and environment.
            statements: PostgreSQL's transactions of one round trip.
        """
        self._database = database
        self._scope = scope
        self._statements = statements

    def has_any(self) -> bool:
        """Return whether a run is queued."""
        is_queued = (*self._scope.is_of_run, runs.c.status == RunStatus.QUEUED)
        with self._database.reading() as connection:
            found = connection.execute(select(runs.c.run_id).where(*is_queued).limit(1))
            return found.first() is not None

    def claim(self, server_id: str, concurrency: Mapping[str, int]) -> ClaimedRun | None:
        """Claim the next run: the oldest of the submitter with the fewest running.

        Args:
            server_id: The server that claims it.
            concurrency: How many runs of a pipeline may execute at a time, by its name.

        Returns:
            The run; None if no run may start.
        """
        if self._statements is not None and not concurrency:
            taken, is_disputed = self._statements.claim(server_id)
            if taken is not None:
                return ClaimedRun(run=rows.load_run(taken), event_id=taken.newest_id + 1)
            if not is_disputed:
                return None
        with self._database.writing() as connection:
            self._scope.lock(self._database, connection)
            if not is_known(connection, server_id):
                return None
            full = self._full_pipelines(connection, concurrency)
            found = self._next(connection, server_id, full)
            return None if found is None else self._claim(connection, found, server_id)

    def _claim(self, connection: Connection, found: Any, server_id: str) -> ClaimedRun | None:
        now = self._database.now_ms(connection)
        started_at = max(now, rows.to_ms(time_of(found.run_id)))
        change = {"status": RunStatus.RUNNING, "owner": server_id, "started_at": started_at}
        if not _CLAIM.changed(connection, {"of": found.run_id, **change}):
            return None  # cancelled at this moment
        event_id = found.newest_id + 1
        started = (found.run_id, event_id, started_at, EventType.RUN_STARTED.value, "{}")
        add_rows(self._database, connection, [started])
        run = replace(
            rows.load_run(found),
            status=RunStatus.RUNNING,
            started_at=rows.from_ms(started_at),
        )
        return ClaimedRun(run=run, event_id=event_id)

    def _next(self, connection: Connection, server_id: str, full: list[str]) -> Any:
        """Return the row of the next run, among those that may start."""
        turn, values = _TURN, {**self._scope.values, "server_id": server_id}
        if full:
            is_of_run = run_pipelines.c.run_id == runs.c.run_id
            of_full = select(1).where(is_of_run, run_pipelines.c.pipeline.in_(full)).exists()
            turn = turn.where(~of_full)
            found = connection.execute(_OLDEST.where(~of_full), values).all()
        else:
            found = _NEXT.rows(connection, values)
        oldest = found[0] if found else None
        if oldest is None or not (oldest.has_running and oldest.has_others):
            return oldest
        running = Counter(connection.execute(_RUNNING_SUBMITTERS, self._scope.values).scalars())
        submitter, first = runs.c.submitted_by, func.min(runs.c.run_id)
        firsts = turn.with_only_columns(submitter, first).group_by(submitter)
        found = connection.execute(firsts, values).all()
        _, run_id = min(found, key=lambda row: (running[row[0]], row[1]))
        return connection.execute(turn.where(runs.c.run_id == run_id), values).one()

    def _full_pipelines(self, connection: Connection, concurrency: Mapping[str, int]) -> list[str]:
        """Return the pipelines that execute as many runs as they may."""
        if not concurrency:
            return []
        limits = {rows.ascii_name(name): limit for name, limit in concurrency.items()}
        # In two steps, of which the first finds few rows: in one, SQLite would scan all runs that
        # the pipelines ever had.
        is_running = (*self._scope.is_of_run, runs.c.status == RunStatus.RUNNING)
        run_ids = connection.execute(select(runs.c.run_id).where(*is_running)).scalars().all()
        pipelines = select(run_pipelines.c.pipeline).where(run_pipelines.c.run_id.in_(run_ids))
        numbers = Counter(connection.execute(pipelines).scalars())
        return [pipeline for pipeline, limit in limits.items() if numbers[pipeline] >= limit]

    def requeue(self, run_id: str, server_id: str) -> None:
        """Return a run to the queue that a server has claimed and not started."""
        is_claimed = (
            runs.c.run_id == run_id,
            runs.c.status == RunStatus.RUNNING,
            runs.c.owner == server_id,
        )
        change = {"status": RunStatus.QUEUED, "owner": None, "started_at": None}
        with self._database.writing() as connection:
            result = connection.execute(update(runs).where(*is_claimed).values(change))
            if result.rowcount:
                append_event(connection, [run_id], EventType.RUN_QUEUED, now_ms())

    def release_hold(self, run_id: str) -> None:
        """Let other servers claim a run that was held for a waiting client."""
        with self._database.writing() as connection:
            connection.execute(update(runs).where(runs.c.run_id == run_id).values(held_by=None))

    def running_at(self, server_id: str) -> list[str]:
        """Return the ids of the runs that a server has claimed."""
        statement = select(runs.c.run_id).where(
            runs.c.status == RunStatus.RUNNING, runs.c.owner == server_id
        )
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())


def is_known(connection: Connection, server_id: str) -> bool:
    """Return whether a server is registered; it cannot be reaped before the transaction ends."""
    return bool(_SERVER.rows(connection, {"server_id": server_id}))
