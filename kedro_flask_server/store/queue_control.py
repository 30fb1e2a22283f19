"""Limits, pauses and resumes a queue, and ends queued runs before their turn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.queue import QueueLimits, WaitingFor, WaitReason
from kedro_flask_server.model.queue_state import QueueState
from kedro_flask_server.model.run import (
    ACTIVE,
    ANONYMOUS,
    CANCELLED_IN_QUEUE,
    ErrorDetail,
    Run,
    RunFilter,
    RunStatus,
    Submitter,
)
from kedro_flask_server.model.run_id import time_of
from kedro_flask_server.store import rows
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import append_event, ended
from kedro_flask_server.store.locks import PAUSED
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import IS_QUEUED, now_ms, now_or, queues, run_pipelines, runs
from kedro_flask_server.store.summaries import read_summaries
from kedro_flask_server.store.turns import (
    DELAY,
    LIMIT,
    POOL,
    RUN,
    QueueRules,
    Turns,
    append_waiting,
    blockers,
    pause_of,
    release,
    shown_name,
    unblock,
)

# How many of the queued runs a state has.
_SHOWN_RUNS = 100

# How many runs a transaction ends.
_STEP_RUNS = 200

_QUEUE_TIMEOUT = ErrorDetail(
    type="QueueTimeout",
    message="The run has waited for its turn for too long (setting queue_timeout_s).",
)

_REASONS = {RUN: WaitReason.DATASET, LIMIT: WaitReason.LIMIT, POOL: WaitReason.POOL}
_REASONS |= {PAUSED: WaitReason.PAUSED, DELAY: WaitReason.DELAY}


class QueueControl:
    """The limits and pauses of the queue of one project and environment."""

    def __init__(self, database: Database, scope: RunScope) -> None:
        """Control the queue of a scope.

        Args:
            database: The database.
            scope: The project and environment.
        """
        self._database = database
        self._scope = scope
        self._turns = Turns(database, scope)
        self._trail = AuditTrail(project=scope.project, env=scope.env)
        self._is_queue = (queues.c.project == scope.project, queues.c.env == scope.env)

    def set_limits(self, limits: QueueLimits, *, replaces: bool = True) -> list[str]:
        """Put limits in force, on all servers of the queue.

        Args:
            limits: The limits.
            replaces: Whether they replace others that are in force.

        Returns:
            How they differ from those before, for a person; empty if there were none before.
        """
        stored = limits.renamed(rows.ascii_name)
        with self._database.writing() as connection:
            self._turns.lock(connection)
            row = connection.execute(select(queues).where(*self._is_queue)).one_or_none()
            if row is not None and (not replaces or row.limits == stored.dump()):
                return []
            paused = frozenset() if row is None else frozenset(json.loads(row.paused))
            self._write(connection, QueueRules(limits=stored, paused=paused))
            former = QueueLimits() if row is None else QueueLimits.load(row.limits)
            kept = {*QueueRules(limits=stored).limited}
            gone = {*QueueRules(limits=former).limited} - kept
            for key in gone:
                unblock(connection, key)
        return [] if row is None else [*limits.changes_from(former.renamed(shown_name))]

    def pause(self, pipeline: str | None, by: Submitter = ANONYMOUS) -> QueueState:
        """Pause the queue: runs are admitted, and do not start.

        Args:
            pipeline: Runs of this pipeline alone; None for all.
            by: The caller who pauses it.

        Returns:
            The queue as it is now.
        """
        name = "" if pipeline is None else rows.ascii_name(pipeline)
        with self._database.writing() as connection:
            self._turns.lock(connection)
            rules = self._turns.rules(connection)
            self._record(connection, "queue.paused", pipeline, by)
            if name not in rules.paused:
                self._write(
                    connection, QueueRules(limits=rules.limits, paused=rules.paused | {name})
                )
                self._block_queued(connection, name)
            return self._state(connection)

    def resume(self, pipeline: str | None, by: Submitter = ANONYMOUS) -> QueueState:
        """Resume what `pause` with the same pipeline has paused, as that does."""
        name = "" if pipeline is None else rows.ascii_name(pipeline)
        with self._database.writing() as connection:
            self._turns.lock(connection)
            rules = self._turns.rules(connection)
            self._record(connection, "queue.resumed", pipeline, by)
            if name in rules.paused:
                self._write(
                    connection, QueueRules(limits=rules.limits, paused=rules.paused - {name})
                )
                unblock(connection, PAUSED + name)
            return self._state(connection)

    def paused(self) -> frozenset[str]:
        """Return the paused pipelines; ``""`` stands for all."""
        with self._database.reading() as connection:
            return frozenset(map(shown_name, self._turns.rules(connection).paused))

    def state(self) -> QueueState:
        """Return the queue as it is now."""
        with self._database.reading() as connection:
            return self._state(connection)

    def end_overdue(self) -> list[str]:
        """End some of the queued runs that have waited for too long, as failures.

        Returns:
            Their ids.
        """
        is_due = (IS_QUEUED, runs.c.queue_ends_at <= now_ms())
        due = select(runs.c.run_id).where(*self._scope.is_of_run, *is_due).limit(_STEP_RUNS)
        with self._database.reading() as connection:
            if connection.execute(due).first() is None:
                return []
        with self._database.writing() as connection:
            self._turns.lock(connection)
            run_ids = list(connection.execute(due.with_for_update()).scalars())
            self._end(connection, run_ids, RunStatus.FAILURE, _QUEUE_TIMEOUT)
            return run_ids

    def end_delays(self) -> bool:
        """Let the retries look for their turn whose delay is over; return whether there are any."""
        is_due = (IS_QUEUED, runs.c.blocked_on == DELAY, runs.c.not_before <= now_ms())
        due = select(runs.c.run_id).where(*self._scope.is_of_run, *is_due)
        with self._database.reading() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return False
        with self._database.writing() as connection:
            self._turns.lock(connection)
            run_ids = list(connection.execute(due.with_for_update()).scalars())
            change = {"blocked_on": None, "waiting_for": None}
            connection.execute(update(runs).where(runs.c.run_id.in_(run_ids)).values(change))
            append_waiting(connection, run_ids, WaitingFor(reason=WaitReason.SLOT))
        return bool(run_ids)

    def cancel(self, wanted: RunFilter, by: Submitter = ANONYMOUS) -> list[str]:
        """Cancel queued runs, and request the cancellation of executing ones.

        Args:
            wanted: Which: of their states, the active ones; by pipeline, submitter, and `within`.
            by: The caller who cancels them.

        Returns:
            The ids of all that were queued or running, the oldest first.
        """
        cancelled: list[str] = []
        matching = self._matching(wanted).order_by(runs.c.run_id).limit(_STEP_RUNS)
        while True:
            with self._database.writing() as connection:
                self._turns.lock(connection)
                found = connection.execute(
                    matching.where(
                        runs.c.run_id > (cancelled[-1] if cancelled else "")
                    ).with_for_update()
                ).all()
                self._cancel(connection, found, by)
            cancelled += [row.run_id for row in found]
            if len(found) < _STEP_RUNS:
                return cancelled

    def _matching(self, wanted: RunFilter) -> Any:
        statuses = [each for each in wanted.statuses if not each.is_final] or (
            [] if wanted.statuses else [*ACTIVE]
        )
        statement = select(runs.c.run_id, runs.c.status, runs.c.cancel_requested_at).where(
            *self._scope.is_of_run, runs.c.status.in_(statuses)
        )
        of_run = run_pipelines.c.run_id == runs.c.run_id
        if wanted.pipeline is not None:
            is_of_pipeline = run_pipelines.c.pipeline == rows.ascii_name(wanted.pipeline)
            statement = statement.where(select(1).where(of_run, is_of_pipeline).exists())
        if wanted.submitted_by is not None:
            statement = statement.where(runs.c.submitted_by == wanted.submitted_by)
        if wanted.within is not None:
            names = [rows.ascii_name(name) for name in wanted.within]
            is_other = run_pipelines.c.pipeline.not_in(names)
            statement = statement.where(~select(1).where(of_run, is_other).exists())
        return statement

    def _cancel(self, connection: Connection, found: Sequence[Any], by: Submitter) -> None:
        asked = [row.run_id for row in found if row.cancel_requested_at is None]
        queued = [row.run_id for row in found if row.status == RunStatus.QUEUED]
        connection.execute(
            update(runs).where(runs.c.run_id.in_(asked)).values(cancel_requested_at=now_ms())
        )
        self._end(connection, queued, RunStatus.CANCELLED, CANCELLED_IN_QUEUE)
        if asked:
            records = [
                AuditRecord.of(by.name, "run.cancelled", run_id, address=by.address)
                for run_id in asked
            ]
            self._trail.add(self._database, connection, *records)

    def _end(
        self,
        connection: Connection,
        run_ids: Sequence[str],
        status: RunStatus,
        error: ErrorDetail,
    ) -> None:
        """End queued runs that will not start."""
        for run_id in run_ids:
            change = rows.ended_in_queue(now_or(rows.to_ms(time_of(run_id))), status, error)
            connection.execute(update(runs).where(runs.c.run_id == run_id).values(change))
        rows.redact_requests(connection, run_ids)
        what = ended(status, 0, error)
        append_event(connection, run_ids, EventType.RUN_FINISHED, runs.c.finished_at, what)
        release(connection, run_ids)

    def _block_queued(self, connection: Connection, name: str) -> None:
        """Block the queued runs of a pipeline, or all, which no others wait for then."""
        is_queued: list[Any] = [*self._scope.is_of_run, IS_QUEUED]
        if name:
            of_run = run_pipelines.c.run_id == runs.c.run_id
            is_queued.append(select(1).where(of_run, run_pipelines.c.pipeline == name).exists())
        is_paused = runs.c.blocked_on.like(PAUSED + "%")
        is_queued.append(runs.c.blocked_on.is_(None) | ~is_paused)
        run_ids = list(connection.execute(select(runs.c.run_id).where(*is_queued)).scalars())
        blocked = pause_of(name)
        connection.execute(update(runs).where(*is_queued).values(blocked.values()))
        append_waiting(connection, run_ids, blocked.waiting_for)
        for key in blockers(connection) & {RUN + run_id for run_id in run_ids}:
            unblock(connection, key)

    def _write(self, connection: Connection, rules: QueueRules) -> None:
        connection.execute(delete(queues).where(*self._is_queue))
        values = {
            **self._scope.values,
            "limits": rules.limits.dump(),
            "paused": json.dumps(sorted(rules.paused)),
            "is_restricted": int(bool(rules)),
        }
        connection.execute(insert(queues).values(values))

    def _record(
        self, connection: Connection, what: str, pipeline: str | None, by: Submitter
    ) -> None:
        record = AuditRecord.of(by.name, what, pipeline or "", address=by.address)
        self._trail.add(self._database, connection, record)

    def _state(self, connection: Connection) -> QueueState:
        rules = self._turns.rules(connection)
        running = self._turns.running(connection)
        is_active = (*self._scope.is_of_run, runs.c.status.in_(ACTIVE))
        keys = select(runs.c.status, runs.c.blocked_on, func.count()).where(*is_active)
        found = connection.execute(keys.group_by(runs.c.status, runs.c.blocked_on)).all()
        waiting: Counter[str] = Counter()
        numbers: Counter[str] = Counter()
        for status, key, number in found:
            numbers[status] += number
            if status == RunStatus.QUEUED:
                waiting[_reason_of(key).value] += number
        limits = rules.limits.renamed(shown_name)
        return QueueState(
            is_paused="" in rules.paused,
            paused_pipelines=sorted(shown_name(name) for name in rules.paused if name),
            limits=limits,
            used={name: pool.slots_for(running) for name, pool in rules.limits.pools.items()},
            queued=numbers[RunStatus.QUEUED],
            running=numbers[RunStatus.RUNNING],
            waiting=dict(waiting),
            runs=self._next_runs(connection),
        )

    def _next_runs(self, connection: Connection) -> list[Run]:
        in_order = (runs.c.priority.desc(), runs.c.run_id)
        first = select(runs.c.run_id).where(*self._scope.is_of_run, IS_QUEUED).order_by(*in_order)
        run_ids = list(connection.execute(first.limit(_SHOWN_RUNS)).scalars())
        found = {run.run_id: run for run in read_summaries(connection, run_ids, ())}
        return [replace(found[each], position=at) for at, each in enumerate(run_ids, 1)]


def _reason_of(key: str | None) -> WaitReason:
    # A later version may know others.
    return _REASONS.get(key.partition(":")[0] + ":", WaitReason.SLOT) if key else WaitReason.SLOT
