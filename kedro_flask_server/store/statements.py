"""The transactions of every run in PostgreSQL, each one statement and one round trip.

Between round trips, a transaction would hold its locks, and wait for the GIL. Unusual cases (a
repeated key, a reached limit, more than one submitter) change nothing here, and are left to the
other modules of `store`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kedro_flask_server.model.data_access import CONFLICTS, Locks
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.locks import LOCK_KEY, conflicting
from kedro_flask_server.store.prepared import Statement
from kedro_flask_server.store.rows import ascii_name
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.turns import MAX_WAITING_EVENTS

_NOW_MS = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
_IN_SCOPE = "project = :project AND env = :env"
_OWN = f"{_IN_SCOPE} AND submitted_by = :submitted_by"

_IS_RESTRICTED = f"EXISTS (SELECT FROM queues WHERE {_IN_SCOPE} AND is_restricted = 1)"

# Of a new run, before which all are that are queued with its priority.
_NEW_CONFLICTS = """
  SELECT FROM json_to_recordset(CAST(:wanted AS JSON)) AS wanted (location BIGINT, mode TEXT)
  JOIN run_locks AS other ON other.location = wanted.location AND other.mode = wanted.mode
  JOIN runs ON runs.run_id = other.run_id
  WHERE other.is_held = 1 AND runs.status = 'running'
  OR other.is_held = 0 AND runs.status = 'queued' AND other.priority >= CAST(:priority AS INTEGER)
"""

_CONFLICTING = ", ".join(f"('{own}', '{each}')" for own in CONFLICTS for each in CONFLICTS[own])
_OTHERS = f"""
  SELECT FROM run_locks AS own
  JOIN (VALUES {_CONFLICTING}) AS conflicting (own, other) ON conflicting.own = own.mode
  JOIN run_locks AS other ON other.location = own.location AND other.mode = conflicting.other
  JOIN runs ON runs.run_id = other.run_id
  WHERE own.run_id = oldest.run_id AND other.run_id <> own.run_id
"""
_IS_IN_CONFLICT = f"""(
  EXISTS ({_OTHERS} AND other.is_held = 1 AND runs.status = 'running')
  OR EXISTS ({_OTHERS} AND other.is_held = 0 AND runs.status = 'queued'
    AND other.priority = own.priority AND other.run_id < own.run_id)
  OR EXISTS ({_OTHERS} AND other.is_held = 0 AND runs.status = 'queued'
    AND other.priority > own.priority)
)"""

_ADD = Statement(f"""
WITH found AS (
  SELECT count(*) AS queued, count(*) FILTER (WHERE blocked_on IS NULL) AS ready
  FROM runs WHERE {_IN_SCOPE} AND status = 'queued'
), known AS (
  SELECT server_id FROM servers WHERE server_id = :server_id FOR SHARE
), taken_in AS (
  SELECT CAST(:may_start AS BOOLEAN) AND ready = 0 AND EXISTS (SELECT FROM known) AS starts
  FROM found
  WHERE queued < CAST(:max_queued AS BIGINT)
  AND NOT {_IS_RESTRICTED} AND NOT EXISTS ({_NEW_CONFLICTS})
  AND (CAST(:idempotency_key AS VARCHAR) IS NULL OR NOT EXISTS
    (SELECT FROM runs WHERE {_OWN} AND idempotency_key = :idempotency_key))
  AND (CAST(:max_own_queued AS BIGINT) IS NULL OR CAST(:max_own_queued AS BIGINT) >
    (SELECT count(*) FROM runs WHERE {_OWN} AND status = 'queued'))
  AND (CAST(:max_own_active AS BIGINT) IS NULL OR CAST(:max_own_active AS BIGINT) >
    (SELECT count(*) FROM runs WHERE {_OWN} AND status IN ('queued', 'running')))
), added AS (
  INSERT INTO runs (run_id, project, env, status, request, submitted_by, idempotency_key,
    request_hash, held_by, priority, queue_ends_at, locks_digest, labels, submitted_from,
    retry_rule, owner, started_at)
  SELECT :run_id, :project, :env, CASE WHEN starts THEN 'running' ELSE 'queued' END, :request,
    :submitted_by, :idempotency_key, :request_hash, :held_by, CAST(:priority AS INTEGER),
    CAST(:queue_ends_at AS BIGINT), :locks_digest, :labels, :submitted_from,
    :retry_rule,
    CASE WHEN starts THEN :server_id END,
    CASE WHEN starts THEN greatest({_NOW_MS}, CAST(:created_at AS BIGINT)) END
  FROM taken_in
  RETURNING run_id, started_at
), of_pipelines AS (
  INSERT INTO run_pipelines (run_id, pipeline)
  SELECT run_id, pipeline
  FROM added, json_array_elements_text(CAST(:pipelines AS JSON)) AS each (pipeline)
), of_locks AS (
  INSERT INTO run_locks (run_id, location, mode, is_held, priority, dataset)
  SELECT run_id, location, mode, CASE WHEN started_at IS NULL THEN 0 ELSE 1 END,
    CAST(:priority AS INTEGER), dataset
  FROM added, json_to_recordset(CAST(:locks AS JSON))
    AS each (location BIGINT, mode TEXT, dataset TEXT)
), of_labels AS (
  INSERT INTO run_labels (run_id, name, value)
  SELECT run_id, name, value
  FROM added, json_to_recordset(CAST(:each_label AS JSON)) AS each (name TEXT, value TEXT)
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

_READY = f"{_IN_SCOPE} AND status = 'queued' AND blocked_on IS NULL AND priority = oldest.priority"

# The next run, unless its submitter has one running while those of others wait.
_CLAIM = Statement(f"""
WITH known AS (
  SELECT server_id FROM servers WHERE server_id = :server_id FOR SHARE
), oldest AS (
  SELECT run_id, submitted_by, priority, not_before FROM runs
  WHERE {_IN_SCOPE} AND status = 'queued' AND blocked_on IS NULL
    AND (held_by IS NULL OR held_by = :server_id)
  ORDER BY priority DESC, run_id LIMIT 1
), turn AS (
  SELECT run_id,
    coalesce((SELECT max(id) FROM events WHERE events.run_id = oldest.run_id), 0) AS newest_id,
    (SELECT time FROM events WHERE events.run_id = oldest.run_id AND id = 1) AS created_at,
    EXISTS (SELECT FROM runs WHERE {_IN_SCOPE} AND status = 'running'
      AND submitted_by = oldest.submitted_by)
    AND (EXISTS (SELECT FROM runs WHERE {_READY} AND submitted_by < oldest.submitted_by)
      OR EXISTS (SELECT FROM runs WHERE {_READY} AND submitted_by > oldest.submitted_by))
    OR coalesce(oldest.not_before > {_NOW_MS}, false) OR {_IS_IN_CONFLICT} AS is_disputed
  FROM oldest
), taken AS (
  UPDATE runs SET status = 'running', owner = :server_id, blocked_on = NULL, waiting_for = NULL,
    started_at = greatest({_NOW_MS}, turn.created_at)
  FROM turn, known
  WHERE runs.run_id = turn.run_id AND NOT turn.is_disputed AND NOT {_IS_RESTRICTED}
    AND runs.status = 'queued'
  RETURNING runs.run_id, runs.project, runs.env, runs.status, runs.request, runs.submitted_by,
    runs.cancel_requested_at, runs.started_at, runs.priority,
    runs.locks_digest, runs.labels, runs.retry_of, runs.attempt, runs.retry_rule,
    turn.newest_id
), of_locks AS (
  UPDATE run_locks SET is_held = 1 FROM taken WHERE run_locks.run_id = taken.run_id
), told AS (
  INSERT INTO events (run_id, id, time, type, data)
  SELECT run_id, newest_id + 1, started_at, 'run.started', '{{}}' FROM taken
)
SELECT (SELECT is_disputed FROM turn) OR {_IS_RESTRICTED}, taken.*
FROM (SELECT 1) AS always LEFT JOIN taken ON true
""")  # noqa: S608  ours

_FINISH = Statement(f"""
WITH ended AS (
  UPDATE runs SET status = :status, duration_ms = CAST(:duration_ms AS DOUBLE PRECISION),
    finished_at = greatest({_NOW_MS}, CAST(:started_at AS BIGINT)), error = :error,
    request = :request, nodes_done = coalesce(CAST(:nodes_done AS INTEGER), nodes_done),
    nodes_total = coalesce(CAST(:nodes_total AS INTEGER), nodes_total)
  WHERE run_id = :run_id AND status = 'running' AND owner = :owner
  RETURNING run_id, finished_at, cancel_requested_at, warnings
), of_locks AS (
  DELETE FROM run_locks USING ended WHERE run_locks.run_id = ended.run_id
), freed AS (
  UPDATE runs SET blocked_on = NULL, waiting_for = NULL
  FROM ended WHERE runs.status = 'queued' AND runs.blocked_on = 'run:' || ended.run_id
  RETURNING runs.run_id
), record AS (
  INSERT INTO run_provenance (run_id, made_of, summary)
  SELECT run_id, :made_of, :summary FROM ended
  WHERE coalesce(:made_of, :summary) IS NOT NULL
  ON CONFLICT (run_id) DO UPDATE SET summary = excluded.summary,
    made_of = coalesce(excluded.made_of, run_provenance.made_of)
), kept AS (
  INSERT INTO run_data (run_id, returned_folder, outputs, stored_bytes)
  SELECT run_id, CAST(:returned_folder AS TEXT), CAST(:outputs AS TEXT),
    CAST(:stored_bytes AS BIGINT)
  FROM ended WHERE CAST(:outputs AS TEXT) IS NOT NULL
  ON CONFLICT (run_id) DO UPDATE SET returned_folder = excluded.returned_folder,
    outputs = excluded.outputs, stored_bytes = excluded.stored_bytes
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
  UNION ALL
  SELECT run_id, (SELECT max(id) FROM events WHERE events.run_id = freed.run_id) + 1,
    {_NOW_MS}, 'run.waiting', '{{"reason": "slot"}}'
  FROM freed WHERE (SELECT count(*) FROM events
    WHERE events.run_id = freed.run_id AND type = 'run.waiting') < {MAX_WAITING_EVENTS}
  ON CONFLICT DO NOTHING
)
SELECT finished_at, cancel_requested_at, warnings FROM ended
""")  # noqa: S608  ours

# Locked, so that a run whose server is reaped gets no events after its end.
_APPEND_EVENTS = Statement("""
WITH given AS (
  SELECT * FROM json_to_recordset(CAST(:told AS JSON))
    AS each (run_id TEXT, owner TEXT, nodes_done INTEGER, nodes_total INTEGER, made_of TEXT)
), executed AS (
  SELECT runs.run_id, given.nodes_done, given.nodes_total, given.made_of
  FROM runs JOIN given ON given.run_id = runs.run_id AND given.owner = runs.owner
  WHERE runs.status = 'running'
  FOR SHARE OF runs
), counted AS (
  UPDATE runs SET nodes_done = executed.nodes_done, nodes_total = executed.nodes_total
  FROM executed WHERE runs.run_id = executed.run_id AND executed.nodes_done IS NOT NULL
), record AS (
  INSERT INTO run_provenance (run_id, made_of)
  SELECT run_id, made_of FROM executed WHERE made_of IS NOT NULL
  ON CONFLICT (run_id) DO UPDATE SET made_of = excluded.made_of
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
    priority: int
    locks_digest: str | None
    labels: str | None
    retry_of: str | None
    attempt: int
    retry_rule: str | None
    newest_id: int
    finished_at: None = None
    duration_ms: None = None
    error: None = None
    nodes_done: None = None
    nodes_total: None = None
    waiting_for: None = None
    warnings: None = None
    retried_by: None = None


class Ended(NamedTuple):
    """When a run ended, when its cancellation was requested, and its warnings, in JSON."""

    finished_at: int
    cancel_requested_at: int | None
    warnings: str | None


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
        self._lock_keys = (scope.lock_key, LOCK_KEY)

    def add(
        self,
        row: Mapping[str, Any],
        pipelines: Sequence[str],
        locks: Locks | None,
        labels: Mapping[str, str],
        **values: Any,
    ) -> TakenIn | None:
        """Store a run, except in unusual cases.

        Args:
            row: Its row in ``runs``, as queued.
            pipelines: Its pipelines.
            locks: What it reads and writes.
            labels: Its labels.
            values: The other values of the statement.

        Returns:
            The result; None if it is not stored.

        Raises:
            sqlalchemy.exc.IntegrityError: If its id is taken.
        """
        each = () if locks is None else locks.each
        given = {
            **row,
            **values,
            "pipelines": json.dumps(pipelines),
            "locks": json.dumps([lock._asdict() for lock in each]),
            "each_label": json.dumps(
                [{"name": name, "value": ascii_name(labels[name])} for name in labels]
            ),
            "wanted": json.dumps(
                [{"location": each, "mode": mode} for each, mode in conflicting(each)]
            ),
        }
        found = self._database.transact(_ADD, given, locks=self._lock_keys)
        return TakenIn(*found[0]) if found else None

    def claim(self, server_id: str) -> tuple[Taken | None, bool]:
        """Claim the next run.

        Args:
            server_id: The server that claims it.

        Returns:
            Its row, or None; and whether the next run cannot be determined here.
        """
        given = {**self._scope.values, "server_id": server_id}
        [(is_disputed, *row)] = self._database.transact(_CLAIM, given, locks=self._lock_keys)
        return None if row[0] is None else Taken(*row), bool(is_disputed)

    def finish(self, events: Sequence[EventRow], **values: Any) -> Ended | None:
        """Record the end of a run.

        Args:
            events: Its pending events.
            values: The other values of the statement.

        Returns:
            Its end; None if it no longer executes there.
        """
        given = {**values, "events": _records(events)}
        found = self._database.transact(_FINISH, given, locks=(LOCK_KEY,))
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
