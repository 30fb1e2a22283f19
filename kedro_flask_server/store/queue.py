"""The queue: the claims of servers on queued runs, in their order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text, update

from kedro_flask_server.model.data_access import Locks
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import Run, RunStatus
from kedro_flask_server.model.run_id import time_of
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import add_rows, append_event
from kedro_flask_server.store.locks import add_locks, find_conflict, hold_locks
from kedro_flask_server.store.prepared import Prepared
from kedro_flask_server.store.run_scope import IN_SCOPE, RunScope
from kedro_flask_server.store.schema import IS_QUEUED, events, now_ms, runs, servers
from kedro_flask_server.store.statements import Statements
from kedro_flask_server.store.turns import (
    RUN,
    Candidate,
    QueueRules,
    Turns,
    block,
    has_stale,
    release,
    unblock,
    unblock_stale,
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
_IS_FREE = runs.c.held_by.is_(None) | (runs.c.held_by == bindparam("server_id"))
_IN_ORDER = (runs.c.priority.desc(), runs.c.run_id)
_IS_READY = (*IN_SCOPE, IS_QUEUED, runs.c.blocked_on.is_(None))
_QUEUED = select(runs, _NEWEST_ID.label("newest_id")).where(*IN_SCOPE, IS_QUEUED, _IS_FREE)
_FIRST = Prepared(_QUEUED.where(runs.c.blocked_on.is_(None)).order_by(*_IN_ORDER).limit(1))
_FIRST_BLOCKED = Prepared(
    _QUEUED.where(runs.c.blocked_on == bindparam("key")).order_by(*_IN_ORDER).limit(1)
)
_RUNNING_SUBMITTERS = Prepared(
    select(runs.c.submitted_by).where(*IN_SCOPE, runs.c.status == RunStatus.RUNNING)
)
# A search of the index, from each of its ends.
_SUBMITTERS = [
    Prepared(
        select(runs.c.submitted_by)
        .where(*_IS_READY, runs.c.priority == bindparam("priority"))
        .order_by(end)
        .limit(1)
    )
    for end in (runs.c.submitted_by, runs.c.submitted_by.desc())
]
_ANY_READY = Prepared(select(runs.c.run_id).where(*_IS_READY).order_by(*_IN_ORDER).limit(1))
_CLAIM = Prepared(
    update(runs).where(runs.c.run_id == bindparam("of"), runs.c.status == RunStatus.QUEUED),
    changes=("status", "owner", "started_at", "blocked_on", "waiting_for"),
)

# The submitters with ready runs, found one after the other in the index, and the first of each.
_FIRSTS = text(
    """
WITH RECURSIVE submitters (name) AS (
  SELECT min(submitted_by) FROM runs WHERE {ready}
  UNION ALL
  SELECT (SELECT min(submitted_by) FROM runs WHERE {ready} AND submitted_by > submitters.name)
  FROM submitters WHERE name IS NOT NULL
)
SELECT name, (
  SELECT min(run_id) FROM runs WHERE {ready} AND submitted_by = submitters.name
    AND (held_by IS NULL OR held_by = :server_id)
) AS run_id FROM submitters WHERE name IS NOT NULL
""".replace(
        "{ready}",
        "project = :project AND env = :env AND priority = :priority AND status = 'queued' "
        "AND blocked_on IS NULL",
    )
)

# How many candidates a transaction looks at, while others wait for it.
_MAX_CANDIDATES = 50


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
        self._turns = Turns(database, scope)

    def has_any(self) -> bool:
        """Return whether a run is queued."""
        is_queued = (*self._scope.is_of_run, IS_QUEUED)
        with self._database.reading() as connection:
            found = connection.execute(select(runs.c.run_id).where(*is_queued).limit(1))
            return found.first() is not None

    def claim(self, server_id: str) -> ClaimedRun | None:
        """Claim the next run.

        That is the one with the highest priority; among these, the oldest of the submitter with the
        fewest running. What holds a run before it is recorded.

        Args:
            server_id: The server that claims it.

        Returns:
            The run; None if no run may start.
        """
        if self._statements is not None:
            taken, is_disputed = self._statements.claim(server_id)
            if taken is not None:
                return ClaimedRun(run=rows.load_run(taken), event_id=taken.newest_id + 1)
            if not is_disputed:
                return None
        while True:
            with self._database.writing() as connection:
                self._turns.lock(connection)
                if not is_known(connection, server_id):
                    return None
                claimed, is_over = self._claim_one_of(connection, server_id)
            if is_over:
                return claimed

    def _claim_one_of(
        self, connection: Connection, server_id: str
    ) -> tuple[ClaimedRun | None, bool]:
        """Claim the first of some candidates that may start, and return whether that was all."""
        rules = self._turns.rules(connection)
        seen: set[str] = set()
        for _ in range(_MAX_CANDIDATES):
            found = self._next(connection, server_id, rules, seen)
            if found is None:
                return None, True
            seen.add(found.run_id)
            candidate = Candidate(
                run_id=found.run_id, priority=found.priority, not_before=found.not_before
            )
            blocked = self._turns.block_of(connection, candidate, rules)
            if blocked is None:
                return self._claim(connection, found, server_id), True
            block(connection, found.run_id, blocked)
        return None, False

    def _claim(self, connection: Connection, found: Any, server_id: str) -> ClaimedRun | None:
        now = self._database.now_ms(connection)
        started_at = max(now, rows.to_ms(time_of(found.run_id)))
        change = {"status": RunStatus.RUNNING, "owner": server_id, "started_at": started_at}
        change |= {"blocked_on": None, "waiting_for": None}
        if not _CLAIM.changed(connection, {"of": found.run_id, **change}):
            return None  # cancelled at this moment
        if found.locks_digest:
            hold_locks(connection, found.run_id, is_held=True)
        event_id = found.newest_id + 1
        started = (found.run_id, event_id, started_at, EventType.RUN_STARTED.value, "{}")
        add_rows(self._database, connection, [started])
        run = replace(
            rows.load_run(found),
            status=RunStatus.RUNNING,
            started_at=rows.from_ms(started_at),
            waiting_for=None,
        )
        return ClaimedRun(run=run, event_id=event_id)

    def _next(
        self, connection: Connection, server_id: str, rules: QueueRules, seen: set[str]
    ) -> Any:
        """Return the row of the next run, of those that may start or were held by a limit.

        Args:
            connection: A transaction.
            server_id: The server that is to execute it.
            rules: The limits in force.
            seen: The runs that were looked at, and may not start.
        """
        values = {**self._scope.values, "server_id": server_id}
        first = self._first_ready(connection, values)
        # A limit frees one run at a time: the first of those that wait for it is looked at again.
        freed = [
            row
            for key in rules.limited
            for row in _FIRST_BLOCKED.rows(connection, {**values, "key": key})
            if row.run_id not in seen
        ]
        found = [*([] if first is None else [first]), *freed]
        return min(found, key=lambda row: (-row.priority, row.run_id), default=None)

    def _first_ready(self, connection: Connection, values: dict[str, Any]) -> Any:
        found = _FIRST.rows(connection, values)
        if not found:
            return None
        [first] = found
        values = {**values, "priority": first.priority}
        ends = [row.submitted_by for each in _SUBMITTERS for row in each.rows(connection, values)]
        if {*ends} == {first.submitted_by}:
            return first
        running = Counter(
            row.submitted_by for row in _RUNNING_SUBMITTERS.rows(connection, self._scope.values)
        )
        if not running[first.submitted_by]:
            return first
        firsts = connection.execute(_FIRSTS, values).all()
        ready = [row for row in firsts if row.run_id is not None]
        _, run_id = min(ready, key=lambda row: (running[row.name], row.run_id))
        if run_id == first.run_id:
            return first
        return connection.execute(_QUEUED.where(runs.c.run_id == run_id), values).one()

    def requeue(self, run_id: str, server_id: str) -> None:
        """Return a run to the queue that a server has claimed and not started."""
        is_claimed = (
            runs.c.run_id == run_id,
            runs.c.status == RunStatus.RUNNING,
            runs.c.owner == server_id,
        )
        change = {"status": RunStatus.QUEUED, "owner": None, "started_at": None}
        with self._database.writing() as connection:
            self._turns.lock(connection)
            result = connection.execute(update(runs).where(*is_claimed).values(change))
            if result.rowcount:
                append_event(connection, [run_id], EventType.RUN_QUEUED, now_ms())
                hold_locks(connection, run_id, is_held=False)
                unblock(connection, RUN + run_id)

    def acquire(self, run: Run, server_id: str, locks: Locks) -> bool:
        """Replace the locks of a run that a server has claimed and that has not begun.

        Args:
            run: The run.
            server_id: The server.
            locks: Its locks.

        Returns:
            Whether it holds them. If not, another run is in the way, and it has to be requeued.
        """
        is_claimed = (
            runs.c.run_id == run.run_id,
            runs.c.status == RunStatus.RUNNING,
            runs.c.owner == server_id,
        )
        with self._database.writing() as connection:
            self._turns.lock(connection)
            change = update(runs).where(*is_claimed).values(locks_digest=locks.digest)
            if connection.execute(change).rowcount == 0:
                return False
            release(connection, [run.run_id])
            conflict = find_conflict(connection, run.run_id, locks.each, run.priority)
            is_held = conflict is None
            add_locks(
                self._database, connection, run.run_id, locks.each, run.priority, is_held=is_held
            )
            return is_held

    def unblock_stale(self) -> None:
        """Let runs look again that wait for a run which has ended, unnoticed by its program."""
        with self._database.reading() as connection:
            if not has_stale(connection):
                return
        with self._database.writing() as connection:
            self._turns.lock(connection)
            unblock_stale(connection)

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


def has_ready(connection: Connection, scope: RunScope) -> bool:
    """Return whether a queued run waits for a slot alone."""
    return bool(_ANY_READY.rows(connection, scope.values))


def is_known(connection: Connection, server_id: str) -> bool:
    """Return whether a server is registered; it cannot be reaped before the transaction ends."""
    return bool(_SERVER.rows(connection, {"server_id": server_id}))
