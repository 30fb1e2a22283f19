"""The transactions of every run in PostgreSQL, each one statement and one round trip.

Between round trips, a transaction would hold its locks, and wait for the GIL. Unusual cases (a
repeated key, a reached limit, more than one submitter) change nothing here, and are left to the
other modules of `store`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kedro_flask_server.store.database import Database
from kedro_flask_server.store.prepared import Statement
from kedro_flask_server.store.run_scope import RunScope

_NOW_MS = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
_IN_SCOPE = "project = :project AND env = :env"
_OWN = f"{_IN_SCOPE} AND submitted_by = :submitted_by"

_ADD = Statement(f"""
WITH found AS (
  SELECT count(*) AS queued FROM runs WHERE {_IN_SCOPE} AND status = 'queued'
), known AS (
  SELECT server_id FROM servers WHERE server_id = :server_id FOR SHARE
), taken_in AS (
  SELECT CAST(:may_start AS BOOLEAN) AND queued = 0 AND EXISTS (SELECT FROM known) AS starts
  FROM found
  WHERE queued < CAST(:max_queued AS BIGINT)
  AND (CAST(:idempotency_key AS VARCHAR) IS NULL OR NOT EXISTS
    (SELECT FROM runs WHERE {_OWN} AND idempotency_key = :idempotency_key))
  AND (CAST(:max_own_queued AS BIGINT) IS NULL OR CAST(:max_own_queued AS BIGINT) >
    (SELECT count(*) FROM runs WHERE {_OWN} AND status = 'queued'))
  AND (CAST(:max_own_active AS BIGINT) IS NULL OR CAST(:max_own_active AS BIGINT) >
    (SELECT count(*) FROM runs WHERE {_OWN} AND status IN ('queued', 'running')))
), added AS (
  INSERT INTO runs (run_id, project, env, status, request, submitted_by, idempotency_key,
    request_hash, held_by, owner, started_at)
  SELECT :run_id, :project, :env, CASE WHEN starts THEN 'running' ELSE 'queued' END, :request,
    :submitted_by, :idempotency_key, :request_hash, :held_by,
    CASE WHEN starts THEN :server_id END,
    CASE WHEN starts THEN greatest({_NOW_MS}, CAST(:created_at AS BIGINT)) END
  FROM taken_in
  RETURNING run_id, started_at
), of_pipelines AS (
  INSERT INTO run_pipelines (run_id, pipeline)
  SELECT run_id, pipeline
  FROM added, json_array_elements_text(CAST(:pipelines AS JSON)) AS each (pipeline)
), told AS (
  INSERT INTO events (run_id, id, time, type, data)
  SELECT run_id, 1, CAST(:created_at AS BIGINT), 'run.queued', '{{}}' FROM added
  UNION ALL
  SELECT run_id, 2, started_at, 'run.started', '{{}}' FROM added WHERE started_at IS NOT NULL
), noted AS (
  INSERT INTO audit (project, env, time, who, what, subject, address)
  SELECT :project, :env, CAST(:noted_at AS BIGINT), :who, :what, :subject, :address FROM added
)
SELECT queued, started_at FROM found, added
""")  # noqa: S608  ours

# The next run, unless its submitter has one running while those of others wait.
_CLAIM = Statement(f"""
WITH known AS (
  SELECT server_id FROM servers WHERE server_id = :server_id FOR SHARE
), oldest AS (
  SELECT run_id, submitted_by FROM runs
  WHERE {_IN_SCOPE} AND status = 'queued' AND (held_by IS NULL OR held_by = :server_id)
  ORDER BY run_id LIMIT 1
), turn AS (
  SELECT run_id,
    coalesce((SELECT max(id) FROM events WHERE events.run_id = oldest.run_id), 0) AS newest_id,
    (SELECT time FROM events WHERE events.run_id = oldest.run_id AND id = 1) AS created_at,
    EXISTS (SELECT FROM runs WHERE {_IN_SCOPE} AND status = 'running'
      AND submitted_by = oldest.submitted_by)
    AND EXISTS (SELECT FROM runs WHERE {_IN_SCOPE} AND status = 'queued'
      AND submitted_by <> oldest.submitted_by) AS is_disputed
  FROM oldest
), taken AS (
  UPDATE runs SET status = 'running', owner = :server_id,
    started_at = greatest({_NOW_MS}, turn.created_at)
  FROM turn, known
  WHERE runs.run_id = turn.run_id AND NOT turn.is_disputed AND runs.status = 'queued'
  RETURNING runs.run_id, runs.project, runs.env, runs.status, runs.request, runs.submitted_by,
    runs.cancel_requested_at, runs.started_at, turn.newest_id
), told AS (
  INSERT INTO events (run_id, id, time, type, data)
  SELECT run_id, newest_id + 1, started_at, 'run.started', '{{}}' FROM taken
)
SELECT (SELECT is_disputed FROM turn), taken.*
FROM (SELECT 1) AS always LEFT JOIN taken ON true
""")  # noqa: S608  ours

_FINISH = Statement(f"""
WITH ended AS (
  UPDATE runs SET status = :status, duration_ms = CAST(:duration_ms AS DOUBLE PRECISION),
    finished_at = greatest({_NOW_MS}, CAST(:started_at AS BIGINT)), error = :error,
    request = :request, nodes_done = coalesce(CAST(:nodes_done AS INTEGER), nodes_done),
    nodes_total = coalesce(CAST(:nodes_total AS INTEGER), nodes_total)
  WHERE run_id = :run_id AND status = 'running' AND owner = :owner
  RETURNING run_id, finished_at, cancel_requested_at
), told AS (
  INSERT INTO events (run_id, id, time, type, data)
  SELECT run_id, each.id, each.time, each.type, each.data
  FROM ended, json_to_recordset(CAST(:events AS JSON))
    AS each (id INTEGER, time BIGINT, type TEXT, data TEXT)
  UNION ALL
  SELECT run_id, coalesce(CAST(:last_id AS INTEGER),
    (SELECT max(id) FROM events WHERE events.run_id = ended.run_id), 0) + 1,
    finished_at, 'run.finished', :what
  FROM ended
  ON CONFLICT DO NOTHING
)
SELECT finished_at, cancel_requested_at FROM ended
""")  # noqa: S608  ours

# Locked, so that a run whose server is reaped gets no events after its end.
_APPEND_EVENTS = Statement("""
WITH given AS (
  SELECT * FROM json_to_recordset(CAST(:told AS JSON))
    AS each (run_id TEXT, owner TEXT, nodes_done INTEGER, nodes_total INTEGER)
), executed AS (
  SELECT runs.run_id, given.nodes_done, given.nodes_total
  FROM runs JOIN given ON given.run_id = runs.run_id AND given.owner = runs.owner
  WHERE runs.status = 'running'
  FOR SHARE OF runs
), counted AS (
  UPDATE runs SET nodes_done = executed.nodes_done, nodes_total = executed.nodes_total
  FROM executed WHERE runs.run_id = executed.run_id AND executed.nodes_done IS NOT NULL
)
INSERT INTO events (run_id, id, time, type, data)
SELECT each.run_id, each.id, each.time, each.type, each.data
FROM executed JOIN json_to_recordset(CAST(:events AS JSON))
  AS each (run_id TEXT, id INTEGER, time BIGINT, type TEXT, data TEXT)
  ON each.run_id = executed.run_id
ON CONFLICT DO NOTHING
""")

EventRow = tuple[str, int, int, str, str]
_COLUMNS = ("run_id", "id", "time", "type", "data")


class TakenIn(NamedTuple):
    """The result of admitting a run: how many are queued, and when it started."""

    queued: int
    started_at: int | None


class Taken(NamedTuple):
    """The row of a claimed run, without empty columns, and the id of its newest event."""

    run_id: str
    project: str
    env: str
    status: str
    request: str
    submitted_by: str
    cancel_requested_at: int | None
    started_at: int
    newest_id: int
    finished_at: None = None
    duration_ms: None = None
    error: None = None
    nodes_done: None = None
    nodes_total: None = None


class Ended(NamedTuple):
    """When a run ended, and when its cancellation was requested."""

    finished_at: int
    cancel_requested_at: int | None


class Statements:
    """The transactions of the runs of one project and environment."""

    def __init__(self, database: Database, scope: RunScope) -> None:
        """Select a project and environment.

        Args:
            database: The database.
            scope: The project and environment.
        """
        self._database = database
        self._scope = scope

    def add(
        self, row: Mapping[str, Any], pipelines: Sequence[str], **values: Any
    ) -> TakenIn | None:
        """Store a run, except in unusual cases.

        Args:
            row: Its row in ``runs``, as queued.
            pipelines: Its pipelines.
            values: The other values of the statement.

        Returns:
            The result; None if it is not stored.

        Raises:
            sqlalchemy.exc.IntegrityError: If its id is taken.
        """
        given = {**row, **values, "pipelines": json.dumps(pipelines)}
        found = self._database.transact(_ADD, given, lock=self._scope.lock_key)
        return TakenIn(*found[0]) if found else None

    def claim(self, server_id: str) -> tuple[Taken | None, bool]:
        """Claim the next run.

        Args:
            server_id: The server that claims it.

        Returns:
            Its row, or None; and whether the next run cannot be determined here.
        """
        given = {**self._scope.values, "server_id": server_id}
        [(is_disputed, *row)] = self._database.transact(_CLAIM, given, lock=self._scope.lock_key)
        return None if row[0] is None else Taken(*row), bool(is_disputed)

    def finish(self, events: Sequence[EventRow], **values: Any) -> Ended | None:
        """Record the end of a run.

        Args:
            events: Its pending events.
            values: The other values of the statement.

        Returns:
            Its end; None if it no longer executes there.
        """
        found = self._database.transact(_FINISH, {**values, "events": _records(events)})
        return Ended(*found[0]) if found else None


def append_events(
    database: Database, told: Sequence[Mapping[str, Any]], rows: Sequence[EventRow]
) -> None:
    """Store events of runs, except of those that no longer execute at their server.

    Args:
        database: The database.
        told: For each run, its id, its server, and its progress.
        rows: The events.
    """
    database.transact(_APPEND_EVENTS, {"told": json.dumps(told), "events": _records(rows)})


def _records(rows: Sequence[EventRow]) -> str:
    return json.dumps([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
