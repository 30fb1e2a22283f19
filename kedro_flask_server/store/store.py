"""The runs of one project and environment: taken in, taken up, ended, deleted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Connection,
    bindparam,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from kedro_flask_server.errors import KeyReusedError, QuotaError, ServerBusyError
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import (
    ACTIVE,
    NOBODY,
    AuditRecord,
    ErrorDetail,
    Run,
    RunOutcome,
    RunRequest,
    RunStatus,
    Submitter,
)
from kedro_flask_server.model.run_id import is_run_id, run_id_at, time_of
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.store import rows
from kedro_flask_server.store.audit import AuditTrail
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
from kedro_flask_server.store.prepared import Prepared
from kedro_flask_server.store.reading import RunReader
from kedro_flask_server.store.retention import SPARED_S, Retention
from kedro_flask_server.store.schema import (
    events,
    now_ms,
    now_or,
    run_pipelines,
    runs,
    servers,
)
from kedro_flask_server.store.servers import ServerStore

if TYPE_CHECKING:
    from kedro_flask_server.store.transactions import Transactions


_IN_SCOPE = (runs.c.project == bindparam("project"), runs.c.env == bindparam("env"))
_IS_QUEUED = (*_IN_SCOPE, runs.c.status == RunStatus.QUEUED)
_IS_RUNNING = (*_IN_SCOPE, runs.c.status == RunStatus.RUNNING)
_QUEUED = Prepared(select(func.count()).select_from(runs).where(*_IS_QUEUED))
_RUNNING_SUBMITTERS = select(runs.c.submitted_by).where(*_IS_RUNNING)
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
_TAKE_UP = Prepared(
    update(runs).where(runs.c.run_id == bindparam("of"), runs.c.status == RunStatus.QUEUED),
    changes=("status", "owner", "started_at"),
)
_IS_EXECUTED = update(runs).where(
    runs.c.run_id == bindparam("of"),
    runs.c.status == RunStatus.RUNNING,
    runs.c.owner == bindparam("by"),
)
_END = ("status", "duration_ms", "finished_at", "error", "request")
_FINISH = Prepared(_IS_EXECUTED, changes=_END)
_FINISH_COUNTED = Prepared(_IS_EXECUTED, changes=(*_END, "nodes_done", "nodes_total"))
_CANCEL_REQUESTED_AT = Prepared(
    select(runs.c.cancel_requested_at).where(runs.c.run_id == bindparam("of"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """A run that was taken up.

    Attributes:
        run: The run, now running.
        event_id: The id of its newest event, which says so.
    """

    run: Run
    event_id: int


class RunStore(RunReader):
    """Runs, as rows; each change of a run's state is one conditional UPDATE.

    Every method raises `StoreUnavailableError` where the database cannot be reached or
    written, within five seconds.
    """

    def __init__(self, database: Database, *, project: str, env: str) -> None:
        """Keep the runs of a project and environment in a database.

        Args:
            database: The database, which others may share.
            project: The project's name.
            env: The configuration environment.
        """
        super().__init__(database, project=project, env=env)
        self.servers = ServerStore(database)
        self.events = EventStore(database)
        self._scope_values = {"project": project, "env": env}
        self._trail = AuditTrail(project=project, env=env)
        self._retention = Retention(database, project=project, env=env)
        digest = hashlib.sha256(f"{project}\0{env}".encode()).digest()
        self._scope_lock = int.from_bytes(digest[:8], "big", signed=True)
        self._transactions: Transactions | None = None
        if not database.is_sqlite:
            from kedro_flask_server.store.transactions import Transactions

            self._transactions = Transactions(database, self._scope_values, self._scope_lock)

    @property
    def is_local(self) -> bool:
        """Whether servers of one machine alone can reach it."""
        return self._database.is_sqlite

    @property
    def generation(self) -> int:
        """How often what it kept its rows in was replaced."""
        return self._database.generation

    def open(self) -> None:
        """Make the tables, or bring them up to date.

        Raises:
            ServerSettingsError: If the database cannot be used at all.
        """
        self._database.open()

    def tidy(self) -> None:
        """Do what the database needs from time to time, while others use it."""
        self._database.tidy()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have what this thread changes within be stored at the end, or nothing of it."""
        with self._database.writing():
            yield

    def add(
        self,
        request: RunRequest,
        *,
        submitter: Submitter = NOBODY,
        run_id: Callable[[], str],
        server_id: str,
        is_held: bool,
        key: str | None,
        key_hours: float,
        workers: int,
        max_queued: int,
        may_start: bool = False,
    ) -> Run | ClaimedRun:
        """Store a run as queued or taken up, or find the one that was sent with the same key.

        Args:
            request: What to run.
            submitter: Who sends it.
            run_id: Returns an id, another at each call: one may be taken.
            server_id: The server that takes it in.
            is_held: Whether no other server may take it up.
            key: An idempotency key.
            key_hours: For how many hours a key counts.
            workers: How many runs this server executes at a time.
            max_queued: How many runs may be queued, besides those that start at once.
            may_start: Whether the server has a free slot, should no other run be queued.

        Returns:
            The run; where it is taken up, a claim.

        Raises:
            KeyReusedError: If the key was sent before, with another request.
            QuotaError: If the submitter has as many runs as they may.
            ServerBusyError: If as many runs are queued as may.
        """
        if key is not None:  # most that comes again is found without a turn to write
            found = self._sent_before(request, submitter.name, key, key_hours)
            if found is not None:
                return found
        pipelines, sent = rows.pipeline_names(request), rows.dump_request(request)
        SECRETS.keep_those_in(sent)
        while True:
            new_id = run_id()
            values = {
                "run_id": new_id,
                "project": self._project,
                "env": self._env,
                "status": RunStatus.QUEUED.value,
                "request": sent,
                "submitted_by": submitter.name,
                "idempotency_key": key,
                "request_hash": None if key is None else rows.hash_request(request),
                "held_by": server_id if is_held else None,
            }
            try:
                at_once = self._add_at_once(
                    values, pipelines, submitter, server_id, max_queued, may_start=may_start
                )
                if at_once is not None:
                    return at_once
                with self._database.writing() as connection:
                    self._lock_scope(connection)
                    if key is not None:
                        self._release_expired_key(connection, submitter.name, key, key_hours)
                        row = self._of_key(connection, submitter.name, key)
                        if row is not None:
                            return self._same(connection, row, request)
                    self._refuse_beyond_quota(connection, submitter)
                    queued = self._count_queued(connection)
                    self._refuse_beyond(connection, queued, server_id, workers, max_queued)
                    self._record(connection, submitter, "run.submitted", new_id)
                    starts = may_start and not queued and self._is_known(connection, server_id)
                    if starts:
                        values |= self._started(connection, new_id, server_id)
                    self._insert(connection, values, pipelines)
                run = self._inserted(values)
                return (
                    ClaimedRun(run=run, event_id=2) if starts else replace(run, position=queued + 1)
                )
            except IntegrityError:
                # The id was given out by another server within the same millisecond. Were it
                # anything else, this would not end.
                if not self._exists(new_id):
                    raise

    def _add_at_once(
        self,
        values: dict[str, Any],
        pipelines: list[str],
        submitter: Submitter,
        server_id: str,
        max_queued: int,
        *,
        may_start: bool,
    ) -> Run | ClaimedRun | None:
        """Store a run in one round trip; None where there is none such, or something is unusual."""
        if self._transactions is None or self._database.is_writing:
            return None
        run_id = values["run_id"]
        record = self._trail.row(_audit_record(submitter, "run.submitted", run_id))
        taken_in = self._transactions.add(
            values,
            pipelines,
            server_id=server_id,
            max_queued=max_queued,
            may_start=may_start,
            max_own_active=submitter.max_active,
            max_own_queued=submitter.max_queued,
            created_at=rows.to_ms(time_of(run_id)),
            **{"noted_at" if name == "time" else name: record[name] for name in record},
        )
        if taken_in is None:
            return None
        if taken_in.started_at is None:
            return replace(self._inserted(values), position=taken_in.queued + 1)
        started = {"status": RunStatus.RUNNING, "started_at": taken_in.started_at}
        return ClaimedRun(run=self._inserted({**values, **started}), event_id=2)

    def _started(self, connection: Connection, run_id: str, server_id: str) -> dict[str, Any]:
        """Return what is different in the row of a run that starts as it is taken in."""
        now = self._database.now_ms(connection)
        return {
            "status": RunStatus.RUNNING.value,
            "owner": server_id,
            "started_at": max(now, rows.to_ms(time_of(run_id))),
        }

    def _insert(self, connection: Connection, values: dict[str, Any], pipelines: list[str]) -> None:
        self._database.insert(connection, runs, [*values], [tuple(values.values())])
        run_id, started_at = values["run_id"], values.get("started_at")
        of_run = [(run_id, name) for name in pipelines]
        self._database.insert(connection, run_pipelines, ("run_id", "pipeline"), of_run)
        told = [(run_id, 1, rows.to_ms(time_of(run_id)), EventType.RUN_QUEUED.value, "{}")]
        if started_at is not None:
            told.append((run_id, 2, started_at, EventType.RUN_STARTED.value, "{}"))
        add_rows(self._database, connection, told)

    def _inserted(self, values: dict[str, Any]) -> Run:
        return Run(
            run_id=values["run_id"],
            project=self._project,
            env=self._env,
            status=RunStatus(values["status"]),
            request=RunRequest(**json.loads(values["request"])),
            created_at=time_of(values["run_id"]),
            started_at=rows.from_ms(values.get("started_at")),
            submitted_by=values["submitted_by"] or None,
        )

    def _record(self, connection: Connection, who: Submitter, what: str, run_id: str) -> None:
        self._trail.add(self._database, connection, _audit_record(who, what, run_id))

    def _sent_before(
        self, request: RunRequest, submitter: str, key: str, key_hours: float
    ) -> Run | None:
        with self._database.reading() as connection:
            row = self._of_key(connection, submitter, key)
            if row is None or row.run_id < _ago(timedelta(hours=key_hours)):
                return None
            return self._same(connection, row, request)

    def _same(self, connection: Connection, row: Any, request: RunRequest) -> Run:
        if row.request_hash != rows.hash_request(request):
            raise KeyReusedError
        return replace(rows.load_run(row, self._position(connection, row)), is_replay=True)

    def _of_key(self, connection: Connection, submitter: str, key: str) -> Any:
        """Return the row that was sent with a key; None where there is none."""
        statement = select(runs).where(*self._sent_with(submitter, key))
        return connection.execute(statement).one_or_none()

    def _release_expired_key(
        self, connection: Connection, submitter: str, key: str, key_hours: float
    ) -> None:
        """Take a key whose time is over from its run."""
        is_over = runs.c.run_id < _ago(timedelta(hours=key_hours))
        statement = update(runs).where(*self._sent_with(submitter, key), is_over)
        connection.execute(statement.values(idempotency_key=None, request_hash=None))

    def _sent_with(self, submitter: str, key: str) -> tuple[Any, ...]:
        is_of_submitter = runs.c.submitted_by == submitter
        return (*self._scope, is_of_submitter, runs.c.idempotency_key == key)

    def _refuse_beyond_quota(self, connection: Connection, submitter: Submitter) -> None:
        for kind, limit, states in (
            ("active", submitter.max_active, ACTIVE),
            ("queued", submitter.max_queued, (RunStatus.QUEUED,)),
        ):
            if limit is None:
                continue
            is_own = runs.c.submitted_by == submitter.name
            if self._count(connection, runs.c.status.in_(states), is_own) >= limit:
                raise QuotaError(submitter.name, limit, kind)

    def _count_queued(self, connection: Connection) -> int:
        [(queued,)] = _QUEUED.rows(connection, self._scope_values)
        return int(queued)

    def _is_known(self, connection: Connection, server_id: str) -> bool:
        """Whether a server is known; nobody can take it for dead before the transaction ends."""
        return bool(_SERVER.rows(connection, {"server_id": server_id}))

    def _refuse_beyond(
        self,
        connection: Connection,
        queued: int,
        server_id: str,
        workers: int,
        max_queued: int,
    ) -> None:
        if queued < max_queued:
            return
        running = self._count(
            connection, runs.c.status == RunStatus.RUNNING, runs.c.owner == server_id
        )
        # What has a free slot is queued for a moment only.
        if queued >= max_queued + max(0, workers - running):
            raise ServerBusyError("their turn to run", limit=max_queued, setting="max_queued")

    def claim(self, server_id: str, concurrency: Mapping[str, int]) -> ClaimedRun | None:
        """Take up the run whose turn it is: the oldest of whoever has the fewest that run.

        Args:
            server_id: Who takes it up.
            concurrency: Pipeline to how many of its runs may execute at a time.

        Returns:
            The run; None where there is none that may run.
        """
        if self._transactions is not None and not concurrency and not self._database.is_writing:
            taken, is_disputed = self._transactions.claim(server_id)
            if taken is not None:
                return ClaimedRun(run=rows.load_run(taken), event_id=taken.newest_id + 1)
            if not is_disputed:
                return None
        with self._database.writing() as connection:
            self._lock_scope(connection)
            if not self._is_known(connection, server_id):
                return None
            found = self._next(connection, server_id, self._full_pipelines(connection, concurrency))
            if found is None:
                return None
            now = self._database.now_ms(connection)
            started_at = max(now, rows.to_ms(time_of(found.run_id)))
            change = {"status": RunStatus.RUNNING, "owner": server_id, "started_at": started_at}
            if not _TAKE_UP.changed(connection, {"of": found.run_id, **change}):
                return None  # cancelled in this moment
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
        """Return the row of the run whose turn it is, of those that may run."""
        turn, values = _TURN, {**self._scope_values, "server_id": server_id}
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
        running = Counter(connection.execute(_RUNNING_SUBMITTERS, self._scope_values).scalars())
        submitter, first = runs.c.submitted_by, func.min(runs.c.run_id)
        firsts = turn.with_only_columns(submitter, first).group_by(submitter)
        found = connection.execute(firsts, values).all()
        _, run_id = min(found, key=lambda row: (running[row[0]], row[1]))
        return connection.execute(turn.where(runs.c.run_id == run_id), values).one()

    def _full_pipelines(self, connection: Connection, concurrency: Mapping[str, int]) -> list[str]:
        if not concurrency:
            return []
        limits = {rows.ascii_name(name): limit for name, limit in concurrency.items()}
        # Two steps, of which the first finds few rows: in one, SQLite goes through all that the
        # pipelines ever ran.
        running = select(runs.c.run_id).where(*self._scope, runs.c.status == RunStatus.RUNNING)
        run_ids = connection.execute(running).scalars().all()
        pipelines = select(run_pipelines.c.pipeline).where(run_pipelines.c.run_id.in_(run_ids))
        numbers = Counter(connection.execute(pipelines).scalars())
        return [pipeline for pipeline, limit in limits.items() if numbers[pipeline] >= limit]

    def requeue(self, run_id: str, server_id: str) -> None:
        """Have a run that was taken up, and never started, wait for its turn again."""
        with self._database.writing() as connection:
            result = connection.execute(
                update(runs)
                .where(*_is_running_at(run_id, server_id))
                .values(status=RunStatus.QUEUED, owner=None, started_at=None)
            )
            if result.rowcount:
                append_event(connection, [run_id], EventType.RUN_QUEUED, now_ms())

    def release_hold(self, run_id: str) -> None:
        """Let other servers take up a run that was held for the one who waited for it."""
        with self._database.writing() as connection:
            connection.execute(update(runs).where(runs.c.run_id == run_id).values(held_by=None))

    def finish(self, run: Run, outcome: RunOutcome, told: PendingEvents) -> Run | None:
        """Record how a run ended, and what it has told that is not stored yet.

        A run that has ended already, because its server was taken for dead, keeps its state;
        the outcome becomes an event. Its request is kept without what is secret in it.

        Args:
            run: The run, as it was taken up.
            outcome: How it ended.
            told: The server that executed it, and what was told.

        Returns:
            The run as it is now; None where it has another end.
        """
        error, kept = rows.dump_error(outcome.error), rows.dump_ended_request(run.request)
        request = RunRequest(**json.loads(kept))
        progress, run_id = told.progress, run.run_id
        what, new = ended_with(outcome, progress), rows_of(run_id, told.events)
        ended = self._finish_at_once(run, outcome, told, error=error, kept=kept)
        if ended is not None:
            return ended
        with self._database.writing() as connection:
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
                rows.redact_pipelines(connection, run_id, run.request, request)
                [(asked_at,)] = _CANCEL_REQUESTED_AT.rows(connection, {"of": run_id})
                return _ended(run, outcome, told, (kept, finished_at, asked_at))
            row = self._row(connection, run_id)
            if row is None:
                return None
            stored = (row.owner, row.status, row.duration_ms, row.error)
            if stored == (told.server_id, outcome.status, outcome.duration_ms, error):
                return rows.load_run(row)  # it was stored before, and the answer was lost
            late = {**what, "is_late": True}
            append_event(connection, [run_id], EventType.RUN_FINISHED, now_ms(), late)
            return None

    def _finish_at_once(
        self, run: Run, outcome: RunOutcome, told: PendingEvents, *, error: str | None, kept: str
    ) -> Run | None:
        """Record how a run ended in one round trip; None where there is none such, or it is not."""
        if self._transactions is None or self._database.is_writing:
            return None
        if rows.pipeline_names(run.request) != rows.pipeline_names(RunRequest(**json.loads(kept))):
            return None  # what is secret is to be taken out of them, too
        progress = told.progress
        ended = self._transactions.finish(
            rows_of(run.run_id, told.events),
            run_id=run.run_id,
            owner=told.server_id,
            status=outcome.status.value,
            duration_ms=outcome.duration_ms,
            started_at=rows.to_ms(run.started_at or run.created_at),
            error=error,
            request=kept,
            nodes_done=None if progress is None else progress.done,
            nodes_total=None if progress is None else progress.total,
            last_id=told.events[-1].id if told.events else told.last_id,
            what=json.dumps(ended_with(outcome, progress)),
        )
        return None if ended is None else _ended(run, outcome, told, (kept, *ended))

    def request_cancel(self, run_id: str, by: Submitter = NOBODY) -> Run | None:
        """Cancel a run that is queued; note for one that runs that it is to be cancelled.

        Args:
            run_id: The run.
            by: Who cancels it.

        Returns:
            The run as it is now; None where there is none.
        """
        error = ErrorDetail(type="RunCancelled", message="The run was cancelled before it started.")
        is_run = (*self._scope, runs.c.run_id == run_id)
        if not is_run_id(run_id):
            return None
        with self._database.writing() as connection:
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
                self._record(connection, by, "run.cancelled", run_id)
            if row.status == RunStatus.QUEUED:
                rows.redact_requests(connection, [run_id])
                append_cancelled(connection, [run_id], error)
            return rows.load_run(connection.execute(select(runs).where(*is_run)).one())

    def cancel_unclaimed(self, run_id: str) -> bool:
        """Cancel a run that is queued, because nobody waits for it any more.

        Returns:
            Whether it was queued.
        """
        with self._database.writing() as connection:
            queued = (runs.c.run_id == run_id, runs.c.status == RunStatus.QUEUED)
            change = rows.cancelled(now_or(rows.to_ms(time_of(run_id))), rows.UNCLAIMED)
            result = connection.execute(update(runs).where(*queued).values(change))
            is_cancelled = result.rowcount == 1
            if is_cancelled:
                rows.redact_requests(connection, [run_id])
                append_cancelled(connection, [run_id], rows.UNCLAIMED)
            return is_cancelled

    def purge(
        self, *, keep_runs: int, keep_days: float, key_hours: float, spared_s: float = SPARED_S
    ) -> bool:
        """Delete some of the runs that need not be kept, as `Retention.forget` does."""
        return self._retention.purge(
            keep_runs=keep_runs, keep_days=keep_days, key_hours=key_hours, spared_s=spared_s
        )

    def _lock_scope(self, connection: Connection) -> None:
        """Have others wait who count rows of this project and environment, to act upon it."""
        self._database.lock(connection, self._scope_lock)


def _audit_record(who: Submitter, what: str, run_id: str) -> AuditRecord:
    now = datetime.now(timezone.utc)
    return AuditRecord(time=now, who=who.name, what=what, subject=run_id, address=who.address)


def _ago(period: timedelta) -> str:
    """Return the id of a run that was taken in a while ago."""
    return run_id_at(datetime.now(timezone.utc) - period)


def _ended(
    run: Run, outcome: RunOutcome, told: PendingEvents, stored: tuple[str, int, int | None]
) -> Run:
    """Return a run that has ended, with what is stored of that: request, end, when to be ended."""
    kept, finished_at, asked_at = stored
    return replace(
        run,
        cancel_requested_at=rows.from_ms(asked_at),
        status=outcome.status,
        request=RunRequest(**json.loads(kept)),
        finished_at=rows.from_ms(finished_at),
        duration_ms=outcome.duration_ms,
        progress=told.progress or run.progress,
        error=outcome.error,
    )


def _is_running_at(run_id: str, server_id: str) -> tuple[Any, ...]:
    return (
        runs.c.run_id == run_id,
        runs.c.status == RunStatus.RUNNING,
        runs.c.owner == server_id,
    )
