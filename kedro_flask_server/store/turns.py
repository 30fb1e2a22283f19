"""Decides what holds a queued run, in one order: pauses, delays, datasets, limits, pools."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Connection, bindparam, delete, exists, func, literal, select, update

from kedro_flask_server.model.data_access import Lock
from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.queue import QueueLimits, WaitingFor, WaitReason
from kedro_flask_server.model.run import ACTIVE, RunStatus
from kedro_flask_server.model.run_id import EPOCH
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import append_event
from kedro_flask_server.store.locks import (
    LOCK_KEY,
    PAUSED,
    find_conflict,
    locks_of,
)
from kedro_flask_server.store.prepared import Prepared
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import (
    IS_QUEUED,
    IS_STILL_QUEUED,
    events,
    now_ms,
    queues,
    run_locks,
    run_pipelines,
    runs,
)
from kedro_flask_server.text import rfc3339

RUN, LIMIT, POOL = "run:", "limit:", "pool:"
"""Begin `runs.blocked_on`, before the name of what holds the run."""

DELAY = "delay:"
"""The same, of a retry whose delay is not over."""

_IS_OF_RUN = func.substr(runs.c.blocked_on, 1, len(RUN)) == RUN

_RULES = Prepared(
    select(queues.c.limits, queues.c.paused).where(
        queues.c.project == bindparam("project"),
        queues.c.env == bindparam("env"),
        queues.c.is_restricted == 1,
    )
)

_BLOCKED = Prepared(
    select(runs.c.run_id).where(IS_STILL_QUEUED, runs.c.blocked_on == bindparam("key"))
)
_REMOVE_LOCKS = Prepared(delete(run_locks).where(run_locks.c.run_id == bindparam("run_id")))

MAX_WAITING_EVENTS = 20
"""Per run: one that waits for days changes its reason often."""

# Older versions of SQLite accept 999 parameters.
_STEP_RUNS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A run that may be next.

    Attributes:
        run_id: The run.
        priority: Its priority.
        pipelines: Its pipelines, as stored; None to look for them.
        locks: Its locks; None to look for them.
        not_before: When its delay is over, in milliseconds since 1970-01-01T00:00:00Z.
    """

    run_id: str
    priority: int = 0
    pipelines: Sequence[str] | None = None
    locks: Sequence[Lock] | None = None
    not_before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What holds a run: the value of `runs.blocked_on`, and the same for callers."""

    key: str
    waiting_for: WaitingFor

    def values(self) -> dict[str, str]:
        """Return the values of the columns of `runs`."""
        return {"blocked_on": self.key, "waiting_for": json.dumps(self.waiting_for.given())}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRules:
    """The limits in force, and what is paused; pipelines by their names as stored.

    Attributes:
        limits: The limits.
        paused: The paused pipelines; ``""`` stands for all.
    """

    limits: QueueLimits = field(default_factory=QueueLimits)
    paused: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.limits or self.paused)

    @property
    def limited(self) -> Iterator[str]:
        """The keys of what can be full."""
        yield from (LIMIT + name for name in self.limits.concurrency)
        yield from (POOL + name for name in self.limits.pools)


class Turns:
    """Decides what holds a run of one project and environment.

    Every method takes a transaction that has acquired the lock of `lock`.
    """

    def __init__(self, database: Database, scope: RunScope) -> None:
        """Decide for a scope.

        Args:
            database: The database.
            scope: The project and environment.
        """
        self._database = database
        self._scope = scope

    def lock(self, connection: Connection) -> None:
        """Make other transactions wait that count runs, or acquire or free locks."""
        self._scope.lock(self._database, connection)
        self._database.lock(connection, LOCK_KEY)

    def rules(self, connection: Connection) -> QueueRules:
        """Return the limits in force, and what is paused."""
        found = _RULES.rows(connection, self._scope.values)
        if not found:
            return QueueRules()
        limits = QueueLimits.load(found[0].limits)
        return QueueRules(limits=limits, paused=frozenset(json.loads(found[0].paused)))

    def block_of(
        self, connection: Connection, candidate: Candidate, rules: QueueRules
    ) -> Block | None:
        """Return what holds a run; None if it may start."""
        pipelines = candidate.pipelines
        if pipelines is None and rules:
            pipelines = _pipelines_of(connection, [candidate.run_id])
        for name in ("", *(pipelines or ())):
            if name in rules.paused:
                return pause_of(name)
        until = candidate.not_before
        if until is not None and until > self._database.now_ms(connection):
            return delay_of(until)
        locks = candidate.locks
        if locks is None:
            locks = locks_of(connection, candidate.run_id)
        conflict = find_conflict(connection, candidate.run_id, locks, candidate.priority)
        if conflict is not None:
            reason = WaitReason.DATASET
            waiting_for = WaitingFor(
                reason=reason, dataset=conflict.dataset, run_id=conflict.run_id
            )
            return Block(key=RUN + conflict.run_id, waiting_for=waiting_for)
        if not rules.limits:
            return None
        return _full(rules.limits, Counter(pipelines or ()), self.running(connection))

    def running(self, connection: Connection) -> Counter[str]:
        """Return how many runs of each pipeline execute."""
        # In two steps, of which the first finds few rows: in one, SQLite would scan all runs that
        # the pipelines ever had.
        is_running = (*self._scope.is_of_run, runs.c.status == RunStatus.RUNNING)
        run_ids = connection.execute(select(runs.c.run_id).where(*is_running)).scalars().all()
        return Counter(_pipelines_of(connection, run_ids))


def block(connection: Connection, run_id: str, blocked: Block) -> None:
    """Record what holds a run, with an event if that is new."""
    change = blocked.values()
    of_run = (runs.c.run_id == run_id, IS_QUEUED)
    former = connection.execute(select(runs.c.waiting_for).where(*of_run)).scalar()
    connection.execute(update(runs).where(*of_run).values(change))
    if former != change["waiting_for"]:
        append_waiting(connection, [run_id], blocked.waiting_for)


def append_waiting(connection: Connection, run_ids: Sequence[str], waiting_for: WaitingFor) -> None:
    """Append to runs what they wait for, except to those with many such events."""
    for start in range(0, len(run_ids), _STEP_RUNS):
        some = run_ids[start : start + _STEP_RUNS]
        is_waiting = (events.c.run_id.in_(some), events.c.type == EventType.RUN_WAITING)
        numbers = select(events.c.run_id).where(*is_waiting).group_by(events.c.run_id)
        many = numbers.having(func.count() >= MAX_WAITING_EVENTS)
        full = {*connection.execute(many).scalars()}
        told = [run_id for run_id in some if run_id not in full]
        append_event(connection, told, EventType.RUN_WAITING, now_ms(), waiting_for.given())


def release(connection: Connection, run_ids: Iterable[str]) -> None:
    """Remove the locks of runs that have ended, and let the runs look again that wait for them.

    Args:
        connection: A transaction with `LOCK_KEY`.
        run_ids: The runs.
    """
    for run_id in run_ids:
        _REMOVE_LOCKS.changed(connection, {"run_id": run_id})
        unblock(connection, RUN + run_id)


def unblock(connection: Connection, key: str) -> None:
    """Let the runs look again that are held by something, in every project of the database."""
    freed = [row.run_id for row in _BLOCKED.rows(connection, {"key": key})]
    if freed:
        is_held = (IS_STILL_QUEUED, runs.c.blocked_on == key)
        change = {"blocked_on": None, "waiting_for": None}
        connection.execute(update(runs).where(*is_held).values(change))
        append_waiting(connection, freed, WaitingFor(reason=WaitReason.SLOT))


def blockers(connection: Connection) -> set[str]:
    """Return the keys of the runs that others wait for, in every project of the database."""
    is_held = (runs.c.blocked_on.is_not(None), _IS_OF_RUN)
    found = connection.execute(select(runs.c.blocked_on).where(*is_held).distinct())
    return {*found.scalars()}


def unblock_stale(connection: Connection) -> None:
    """Let the runs look again whose blocker was ended by a program that does not know locks."""
    for key in _stale(connection):
        unblock(connection, key)


def has_stale(connection: Connection) -> bool:
    """Return whether `unblock_stale` has something to do."""
    return bool(_stale(connection))


def _stale(connection: Connection) -> list[str]:
    blocker = runs.alias("blocker")
    is_active = exists().where(
        literal(RUN) + blocker.c.run_id == runs.c.blocked_on, blocker.c.status.in_(ACTIVE)
    )
    keys = select(runs.c.blocked_on).distinct()
    is_held = (IS_STILL_QUEUED, runs.c.blocked_on.is_not(None), _IS_OF_RUN)
    return list(connection.execute(keys.where(*is_held, ~is_active)).scalars())


def _pipelines_of(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    pipelines = select(run_pipelines.c.pipeline).where(run_pipelines.c.run_id.in_(run_ids))
    return list(connection.execute(pipelines).scalars())


def pause_of(name: str) -> Block:
    """Return what holds the runs of a paused pipeline; ``""`` stands for all."""
    waiting = WaitingFor(reason=WaitReason.PAUSED, pipeline=shown_name(name) or None)
    return Block(key=PAUSED + name, waiting_for=waiting)


def delay_of(until: int) -> Block:
    """Return what holds a retry until a time, in milliseconds since 1970-01-01T00:00:00Z."""
    waiting = WaitingFor(
        reason=WaitReason.DELAY, until=rfc3339(EPOCH + timedelta(milliseconds=until))
    )
    return Block(key=DELAY, waiting_for=waiting)


def shown_name(name: str) -> str:
    """Return the name of a pipeline that is stored as `rows.ascii_name` returns it."""
    return str(json.loads(f'"{name}"'))


def _full(limits: QueueLimits, own: Mapping[str, int], running: Mapping[str, int]) -> Block | None:
    """Return the limit that holds a run; None if none does.

    Args:
        limits: The limits in force.
        own: The pipelines of the run.
        running: How many runs of each pipeline execute.
    """
    for name, limit in limits.concurrency.items():
        if name in own and running.get(name, 0) >= limit:
            waiting = WaitingFor(reason=WaitReason.LIMIT, pipeline=shown_name(name))
            return Block(key=LIMIT + name, waiting_for=waiting)
    for name, pool in limits.pools.items():
        needed = min(pool.slots_for(own), pool.slots)
        if needed and pool.slots_for(running) + needed > pool.slots:
            return Block(key=POOL + name, waiting_for=WaitingFor(reason=WaitReason.POOL, pool=name))
    return None
