"""New runs: within limits, once for each idempotency key, stored as queued or claimed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import IntegrityError

from kedro_flask_server.errors import (
    DatasetConflictError,
    KeyReusedError,
    QuotaError,
    ServerBusyError,
)
from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.data_access import Lock, Locks
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.queue import WaitReason
from kedro_flask_server.model.retry_rule import RetryRule
from kedro_flask_server.model.run import ACTIVE, Run, RunRequest, RunStatus, Submitter
from kedro_flask_server.model.run_id import run_id_at, time_of
from kedro_flask_server.model.submission import Submission
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.store import rows
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.chains import join_chain
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import add_rows
from kedro_flask_server.store.locks import add_locks
from kedro_flask_server.store.prepared import Prepared
from kedro_flask_server.store.queue import ClaimedRun, has_ready, is_known
from kedro_flask_server.store.run_data import put_given
from kedro_flask_server.store.run_queries import RunQueries
from kedro_flask_server.store.run_scope import IN_SCOPE, RunScope
from kedro_flask_server.store.schema import run_labels, run_pipelines, run_provenance, runs
from kedro_flask_server.store.statements import Statements
from kedro_flask_server.store.turns import Block, Candidate, Turns

_QUEUED = Prepared(
    select(func.count()).select_from(runs).where(*IN_SCOPE, runs.c.status == RunStatus.QUEUED)
)


# As long as in the audit log.
_MAX_ADDRESS_CHARS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to store.

    Attributes:
        submission: The run as it is submitted.
        server_id: The server that admits it.
        is_held: Whether no other server may claim it.
        key_hours: For how many hours a key is valid.
        workers: How many runs this server executes at a time.
        max_queued: How many runs may be queued, besides those that start at once.
        may_start: Whether the server has a free slot for it, if no other run is queued.
        priority: Its priority.
        locks: What it reads and writes; None if that is not known, or does not count.
        refuses_conflicts: Whether to store nothing if another run is in the way.
        queue_timeout_s: After how many seconds in the queue it fails; None for never.
        retry_rule: The rule by which it is retried if it fails.
    """

    submission: Submission
    server_id: str
    is_held: bool
    key_hours: float = 24.0
    workers: int
    max_queued: int
    may_start: bool = False
    priority: int = 0
    locks: Locks | None = None
    refuses_conflicts: bool = False
    queue_timeout_s: float | None = None
    retry_rule: RetryRule | None = None

    @property
    def request(self) -> RunRequest:
        """What to run."""
        return self.submission.request

    @property
    def submitter(self) -> Submitter:
        """The caller who submits it."""
        return self.submission.submitter

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return self.submission.key


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedRun:
    """The result of storing a new run.

    Attributes:
        run: The run; an earlier one if its key was used before.
        claimed: The same run, if the server must execute it at once.
    """

    run: Run
    claimed: ClaimedRun | None = None


class NewRuns:
    """Stores the new runs of one project and environment."""

    def __init__(
        self,
        database: Database,
        scope: RunScope,
        queries: RunQueries,
        statements: Statements | None = None,
    ) -> None:
        """Store the runs of a scope.

        Args:
            database: The database.
            scope: The project and environment.
            queries: Reads its runs.
            statements: PostgreSQL's transactions of one round trip.
        """
        self._database = database
        self._scope = scope
        self._queries = queries
        self._statements = statements
        self._trail = AuditTrail(project=scope.project, env=scope.env)
        self._turns = Turns(database, scope)

    def sent_before(self, submission: Submission, key_hours: float) -> Run | None:
        """Return the run that was sent with the key of a submission; None if there is none.

        Raises:
            KeyReusedError: If the key was used before, with another request.
        """
        if submission.key is None:
            return None
        return self._sent_before(submission, submission.key, key_hours)

    def add(self, new: NewRun, next_id: Callable[[], str]) -> AddedRun:
        """Store a run as queued or claimed, or find an earlier one with the same key.

        Args:
            new: The run.
            next_id: Returns a different id at each call, as one may be taken.

        Raises:
            KeyReusedError: If the key was used before, with another request.
            QuotaError: If the submitter has reached a quota.
            ServerBusyError: If the queue is full.
            DatasetConflictError: If another run is in the way of one that does not wait.
        """
        if new.key is not None:  # most repeated requests are found without the writer's lock
            found = self._sent_before(new.submission, new.key, new.key_hours)
            if found is not None:
                return AddedRun(run=found)
        sent = rows.dump_request(new.request)
        SECRETS.keep_those_in(sent)
        while True:
            values = self._row(new, next_id(), sent)
            try:
                return self._add_at_once(new, values) or self._add(new, values)
            except IntegrityError:
                # Another server has issued the same id within the same millisecond. For any other
                # reason, this would not end.
                if not self._exists(values["run_id"]):
                    raise

    def _row(self, new: NewRun, run_id: str, sent: str) -> dict[str, Any]:
        return {
            "run_id": run_id,
            **self._scope.values,
            "status": RunStatus.QUEUED.value,
            "request": sent,
            "submitted_by": new.submitter.name,
            "idempotency_key": new.key,
            "request_hash": None if new.key is None else _key_hash(new.submission),
            "held_by": new.server_id if new.is_held else None,
            "priority": new.priority,
            "queue_ends_at": _queue_ends_at(run_id, new.queue_timeout_s),
            "locks_digest": None if new.locks is None else new.locks.digest,
            "labels": rows.dump_labels(new.submission.labels),
            "retry_rule": None if new.retry_rule is None else new.retry_rule.dump(),
            "submitted_from": new.submitter.address[:_MAX_ADDRESS_CHARS] or None,
        }

    def _add_at_once(self, new: NewRun, values: dict[str, Any]) -> AddedRun | None:
        """Store a run in one round trip; None with SQLite, or in unusual cases."""
        if self._statements is None:
            return None
        run_id, submitter = values["run_id"], new.submitter
        record = self._trail.row(_submission(submitter, run_id))
        if new.refuses_conflicts or new.submission.retry_of is not None:
            return None
        if new.request.data is not None:
            return None
        taken_in = self._statements.add(
            values,
            rows.pipeline_names(new.request),
            new.locks,
            new.submission.labels,
            server_id=new.server_id,
            max_queued=new.max_queued,
            may_start=new.may_start,
            max_own_active=submitter.max_active,
            max_own_queued=submitter.max_queued,
            created_at=rows.to_ms(time_of(run_id)),
            **{"noted_at" if name == "time" else name: record[name] for name in record},
        )
        if taken_in is None:
            return None
        if taken_in.started_at is None:
            return AddedRun(run=replace(_stored(values), position=taken_in.queued + 1))
        return _started({**values, **_running(new.server_id, taken_in.started_at)})

    def _add(self, new: NewRun, values: dict[str, Any]) -> AddedRun:
        run_id, pipelines = values["run_id"], rows.pipeline_names(new.request)
        with self._database.writing() as connection:
            self._turns.lock(connection)
            if new.key is not None:
                self._release_expired_key(connection, new, new.key)
                row = self._of_key(connection, new.submission, new.key)
                if row is not None:
                    return AddedRun(run=self._same(connection, row, new.submission))
            retry_of = new.submission.retry_of
            if retry_of is not None:
                values = {**values, **join_chain(connection, run_id, retry_of.run_id)}
            self._refuse_beyond_quota(connection, new.submitter)
            queued = self._count_queued(connection)
            self._refuse_beyond_limit(connection, new, queued)
            blocked = self._block_of(connection, run_id, new, pipelines)
            is_next = blocked is None and not (queued and has_ready(connection, self._scope))
            starts = new.may_start and is_next and is_known(connection, new.server_id)
            self._trail.add(self._database, connection, _submission(new.submitter, run_id))
            if starts:
                now = self._database.now_ms(connection)
                started_at = max(now, rows.to_ms(time_of(run_id)))
                values = {**values, **_running(new.server_id, started_at)}
            elif blocked is not None:
                values = {**values, **blocked.values()}
            self._insert(connection, values, pipelines, new)
        if starts:
            return _started(values)
        return AddedRun(run=replace(_stored(values), position=queued + 1))

    def _block_of(
        self, connection: Connection, run_id: str, new: NewRun, pipelines: list[str]
    ) -> Block | None:
        """Return what holds a new run, unless it does not wait for other runs' datasets.

        Raises:
            DatasetConflictError: If it does not, and another run is in the way.
        """
        rules = self._turns.rules(connection)
        candidate = Candidate(
            run_id=run_id, priority=new.priority, pipelines=pipelines, locks=_each(new)
        )
        blocked = self._turns.block_of(connection, candidate, rules)
        is_conflict = blocked is not None and blocked.waiting_for.reason is WaitReason.DATASET
        if new.refuses_conflicts and blocked is not None and is_conflict:
            in_the_way = blocked.waiting_for
            raise DatasetConflictError(str(in_the_way.dataset), str(in_the_way.run_id))
        return blocked

    def _insert(
        self,
        connection: Connection,
        values: dict[str, Any],
        pipelines: list[str],
        new: NewRun,
    ) -> None:
        self._database.insert(connection, runs, [*values], [tuple(values.values())])
        run_id, started_at = values["run_id"], values.get("started_at")
        of_run = [(run_id, name) for name in pipelines]
        self._database.insert(connection, run_pipelines, ("run_id", "pipeline"), of_run)
        is_held = started_at is not None
        add_locks(
            self._database, connection, run_id, _each(new), values["priority"], is_held=is_held
        )
        plan = None if new.submission.retry_of is None else new.submission.retry_of.plan
        if plan is not None:
            self._database.insert(connection, run_provenance, ("run_id", "plan"), [(run_id, plan)])
        of_labels = [
            (run_id, name, rows.ascii_name(value)) for name, value in new.submission.labels.items()
        ]
        self._database.insert(connection, run_labels, ("run_id", "name", "value"), of_labels)
        put_given(self._database, connection, run_id, new.request)
        created_at = rows.to_ms(time_of(run_id))
        events = [(run_id, 1, created_at, EventType.RUN_QUEUED.value, "{}")]
        if started_at is not None:
            events.append((run_id, 2, started_at, EventType.RUN_STARTED.value, "{}"))
        elif "waiting_for" in values:
            what = values["waiting_for"]
            events.append((run_id, 2, created_at, EventType.RUN_WAITING.value, what))
        add_rows(self._database, connection, events)

    def _sent_before(self, submission: Submission, key: str, key_hours: float) -> Run | None:
        with self._database.reading() as connection:
            row = self._of_key(connection, submission, key)
            if row is None or row.run_id < _oldest_id(key_hours):
                return None
            return self._same(connection, row, submission)

    def _same(self, connection: Connection, row: Any, submission: Submission) -> Run:
        """Return the run with the key of a new one."""
        if row.request_hash != _key_hash(submission):
            raise KeyReusedError
        return replace(self._queries.load(connection, row), is_replay=True)

    def _of_key(self, connection: Connection, submission: Submission, key: str) -> Any:
        """Return the row with a key; None where there is none."""
        statement = select(runs).where(*self._sent_with(submission, key))
        return connection.execute(statement).one_or_none()

    def _release_expired_key(self, connection: Connection, new: NewRun, key: str) -> None:
        """Remove an expired key from its run."""
        is_expired = runs.c.run_id < _oldest_id(new.key_hours)
        statement = update(runs).where(*self._sent_with(new.submission, key), is_expired)
        connection.execute(statement.values(idempotency_key=None, request_hash=None))

    def _sent_with(self, submission: Submission, key: str) -> tuple[Any, ...]:
        is_of_submitter = runs.c.submitted_by == submission.submitter.name
        return (*self._scope.is_of_run, is_of_submitter, runs.c.idempotency_key == key)

    def _refuse_beyond_quota(self, connection: Connection, submitter: Submitter) -> None:
        for kind, limit, states in (
            ("active", submitter.max_active, ACTIVE),
            ("queued", submitter.max_queued, (RunStatus.QUEUED,)),
        ):
            if limit is None:
                continue
            is_own = runs.c.submitted_by == submitter.name
            if self._scope.count(connection, runs.c.status.in_(states), is_own) >= limit:
                raise QuotaError(submitter.name, limit, kind)

    def _count_queued(self, connection: Connection) -> int:
        [(queued,)] = _QUEUED.rows(connection, self._scope.values)
        return int(queued)

    def _refuse_beyond_limit(self, connection: Connection, new: NewRun, queued: int) -> None:
        if queued < new.max_queued:
            return
        is_running_here = (runs.c.status == RunStatus.RUNNING, runs.c.owner == new.server_id)
        running = self._scope.count(connection, *is_running_here)
        # Runs for free slots are queued for a moment only.
        if queued >= new.max_queued + max(0, new.workers - running):
            raise ServerBusyError("their turn to run", limit=new.max_queued, setting="max_queued")

    def _exists(self, run_id: str) -> bool:
        with self._database.reading() as connection:
            statement = select(runs.c.run_id).where(runs.c.run_id == run_id)
            return connection.execute(statement).first() is not None


def _running(server_id: str, started_at: int) -> dict[str, Any]:
    """Return the changed values in the row of a run that starts as it is stored."""
    return {"status": RunStatus.RUNNING.value, "owner": server_id, "started_at": started_at}


def _started(values: dict[str, Any]) -> AddedRun:
    run = _stored(values)
    return AddedRun(run=run, claimed=ClaimedRun(run=run, event_id=2))


def _stored(values: dict[str, Any]) -> Run:
    return Run(
        run_id=values["run_id"],
        project=values["project"],
        env=values["env"],
        status=RunStatus(values["status"]),
        request=RunRequest(**json.loads(values["request"])),
        created_at=time_of(values["run_id"]),
        priority=values["priority"],
        locks_digest=values["locks_digest"],
        waiting_for=rows.load_waiting_for(values["status"], values.get("waiting_for")),
        started_at=rows.from_ms(values.get("started_at")),
        submitted_by=values["submitted_by"] or None,
        labels=json.loads(values["labels"]) if values["labels"] else {},
        retry_of=values.get("retry_of"),
        attempt=values.get("attempt", 1),
        retry_rule=RetryRule.load(values["retry_rule"]) if values["retry_rule"] else None,
    )


def _key_hash(submission: Submission) -> str:
    """Return the hash of what was sent with a key."""
    sent = submission.key_stands_for
    return rows.hash_request(submission.request) if sent is None else rows.hash_text(sent)


def _each(new: NewRun) -> Sequence[Lock]:
    return () if new.locks is None else new.locks.each


def _queue_ends_at(run_id: str, timeout_s: float | None) -> int | None:
    return None if timeout_s is None else rows.to_ms(time_of(run_id)) + round(timeout_s * 1000)


def _submission(submitter: Submitter, run_id: str) -> AuditRecord:
    return AuditRecord.of(submitter.name, "run.submitted", run_id, address=submitter.address)


def _oldest_id(hours: float) -> str:
    """Return the id of a run that was admitted so many hours ago."""
    return run_id_at(datetime.now(timezone.utc) - timedelta(hours=hours))
