"""The locks of runs on what they read and write, as rows.

A run conflicts with one that executes, and with one that is queued before it: those that wait start
in their order, and none starves. It waits for one run at a time, the last one before it, so that
the end of a run makes no more runs look again than may start then, however many are queued. No run
waits for a later one unless that executes, so there is no deadlock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Connection, TextClause, bindparam, delete, exists, select, text, update

from kedro_flask_server.model.data_access import CONFLICTS, Lock
from kedro_flask_server.model.run import ACTIVE
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.prepared import Prepared
from kedro_flask_server.store.schema import run_locks, runs

LOCK_KEY = 0x4B65466C5344
"""The advisory lock of transactions that acquire or free locks, "KeFlSD" in ASCII."""

PAUSED = "paused:"
"""Begins `runs.blocked_on` of a run that is paused, for which no other waits."""

_COLUMNS = ("run_id", "location", "mode", "is_held", "priority", "dataset")

_HELD_BY_OTHERS = """
SELECT other.run_id, wanted.location
FROM {wanted} CROSS JOIN run_locks AS other CROSS JOIN runs
WHERE other.is_held = 1 AND other.location = wanted.location AND other.mode = wanted.mode
  AND other.run_id <> :run_id AND runs.run_id = other.run_id AND runs.status = 'running'
LIMIT 1
"""

_BEFORE = f"""
SELECT (
    SELECT other.run_id FROM run_locks AS other JOIN runs ON runs.run_id = other.run_id
    WHERE other.is_held = 0 AND other.location = wanted.location AND other.mode = wanted.mode
      AND {{is_before}} AND runs.status = 'queued'
      AND coalesce(runs.blocked_on, '') NOT LIKE '{PAUSED}%'
    ORDER BY {{order}} LIMIT 1
  ) AS run_id, wanted.location
FROM {{wanted}} ORDER BY 1 DESC NULLS LAST LIMIT 1
"""  # noqa: S608  ours
_LAST_BEFORE = _BEFORE.replace(
    "{is_before}", "other.priority = :priority AND other.run_id < :run_id"
).replace("{order}", "other.run_id DESC")
_HIGHER = _BEFORE.replace(
    "{is_before}", "other.priority > :priority AND other.run_id <> :run_id"
).replace("{order}", "other.priority, other.run_id")

_WANTED = {
    "sqlite": "(SELECT json_extract(value, '$[0]') AS location, json_extract(value, '$[1]') AS mode"
    " FROM json_each(:wanted)) AS wanted",
    "postgresql": "(SELECT CAST(value->>0 AS BIGINT) AS location, value->>1 AS mode"
    " FROM json_array_elements(CAST(:wanted AS JSON))) AS wanted",
}

_LOCKS = Prepared(
    select(run_locks.c.location, run_locks.c.mode, run_locks.c.dataset)
    .where(run_locks.c.run_id == bindparam("run_id"))
    .order_by(run_locks.c.location, run_locks.c.mode)
)
_HOLD = Prepared(
    update(run_locks).where(run_locks.c.run_id == bindparam("of")), changes=("is_held",)
)
_ANY_OTHER = Prepared(
    select(run_locks.c.run_id)
    .where(run_locks.c.is_held == bindparam("held"), run_locks.c.run_id != bindparam("run_id"))
    .limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A run that another has to wait for.

    Attributes:
        run_id: The run that is in the way.
        dataset: The dataset of the other one.
    """

    run_id: str
    dataset: str


def conflicting(locks: Sequence[Lock]) -> list[tuple[int, str]]:
    """Return the locations and modes of locks that conflict with some locks."""
    return [(lock.location, mode) for lock in locks for mode in CONFLICTS[lock.mode]]


def locks_of(connection: Connection, run_id: str) -> list[Lock]:
    """Return the locks that are stored of a run."""
    return [Lock(*row) for row in _LOCKS.rows(connection, {"run_id": run_id})]


def add_locks(
    database: Database,
    connection: Connection,
    run_id: str,
    locks: Sequence[Lock],
    priority: int,
    *,
    is_held: bool,
) -> None:
    """Store the locks of a run that has none."""
    rows = [
        (run_id, lock.location, lock.mode, int(is_held), priority, lock.dataset) for lock in locks
    ]
    database.insert(connection, run_locks, _COLUMNS, rows)


def hold_locks(connection: Connection, run_id: str, *, is_held: bool) -> None:
    """Set whether a run holds its locks, or waits for them."""
    _HOLD.changed(connection, {"of": run_id, "is_held": int(is_held)})


def find_conflict(
    connection: Connection, run_id: str, locks: Sequence[Lock], priority: int
) -> Conflict | None:
    """Return the run for which one with these locks has to wait; None if there is none.

    Args:
        connection: A transaction with `LOCK_KEY`.
        run_id: The run that is to start.
        locks: Its locks.
        priority: Its priority.
    """
    values = {"run_id": run_id, "priority": priority, "wanted": ""}
    for is_held, statements in ((1, (_HELD_BY_OTHERS,)), (0, (_LAST_BEFORE, _HIGHER))):
        if not locks or not _has_others(connection, run_id, is_held):
            continue
        values["wanted"] = values["wanted"] or json.dumps(conflicting(locks))
        for template in statements:
            found = connection.execute(_over(template, connection.dialect.name), values).first()
            if found is not None and found.run_id is not None:
                datasets = {lock.location: lock.dataset for lock in locks}
                return Conflict(run_id=found.run_id, dataset=datasets[found.location])
    return None


@lru_cache
def _over(template: str, dialect: str) -> TextClause:
    """Return a statement over the locations and modes that are wanted."""
    return text(template.replace("{wanted}", _WANTED[dialect]))


def _has_others(connection: Connection, run_id: str, is_held: int) -> bool:
    return bool(_ANY_OTHER.rows(connection, {"held": is_held, "run_id": run_id}))


def remove_stale_locks(connection: Connection) -> None:
    """Remove the locks of runs that were ended by a program which does not know them."""
    is_active = exists().where(runs.c.run_id == run_locks.c.run_id, runs.c.status.in_(ACTIVE))
    connection.execute(delete(run_locks).where(~is_active))
