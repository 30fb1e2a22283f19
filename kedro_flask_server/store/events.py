"""The events of the runs: added in order, in the transactions that change the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.run import ErrorDetail, Progress, RunOutcome, RunStatus
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.schema import events, runs

EventRow = tuple[str, int, int, str, str]
"""An event's run, number, time, type and data."""

_COLUMNS = ("run_id", "id", "time", "type", "data")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvents:
    """What a run that executes has told and is not stored yet.

    Attributes:
        server_id: The server that executes it.
        events: What it has told, numbered.
        last_id: The id of the newest event that was told before, or with these; None where it is
            not known.
        progress: How far it is with that.
    """

    server_id: str
    events: list[Event]
    last_id: int | None = None
    progress: Progress | None = None


class EventStore:
    """The events of a database's runs."""

    def __init__(self, database: Database) -> None:
        """Keep the events of a database's runs.

        Args:
            database: The database.
        """
        self._database = database

    def add(self, told: Mapping[str, PendingEvents]) -> None:
        """Store what runs have told, in one transaction.

        What a run tells is left out where it does not execute any more, or is stored already.

        Args:
            told: What was told, by the run's id.
        """
        new = {run_id: rows_of(run_id, each.events) for run_id, each in told.items()}
        if not self._database.is_sqlite:
            self._add_at_once(told, new)
            return
        with self._database.writing() as connection:
            # Locked: while its server is taken for dead, nothing is added after its end.
            running = select(runs.c.run_id, runs.c.owner).where(
                runs.c.run_id.in_(told), runs.c.status == RunStatus.RUNNING
            )
            found = connection.execute(running.with_for_update(read=True)).all()
            for row in found:
                told_by_run = told[row.run_id]
                if row.owner != told_by_run.server_id:
                    continue
                add_rows(self._database, connection, new[row.run_id])
                progress = told_by_run.progress
                if progress is not None:
                    numbers = {"nodes_done": progress.done, "nodes_total": progress.total}
                    of_run = update(runs).where(runs.c.run_id == row.run_id)
                    connection.execute(of_run.values(numbers))

    def _add_at_once(
        self, told: Mapping[str, PendingEvents], new: Mapping[str, list[EventRow]]
    ) -> None:
        from kedro_flask_server.store import statements

        of_runs = [
            {
                "run_id": run_id,
                "owner": each.server_id,
                "nodes_done": None if each.progress is None else each.progress.done,
                "nodes_total": None if each.progress is None else each.progress.total,
            }
            for run_id, each in told.items()
        ]
        statements.append_events(
            self._database, of_runs, [row for each in new.values() for row in each]
        )


def rows_of(run_id: str, told: Iterable[Event]) -> list[EventRow]:
    """Return the rows of what a run has told."""
    return [
        (run_id, event.id, rows.to_ms(event.time), str(event.type), json.dumps(event.data))
        for event in told
    ]


def add_rows(database: Database, connection: Connection, rows: Sequence[EventRow]) -> None:
    """Add events that are not there, in a transaction that has seen that their runs execute."""
    database.insert(connection, events, _COLUMNS, rows, or_ignore=True)


def events_after(
    connection: Connection, run_id: str, after: int, limit: int, kind: EventType | None
) -> list[Event]:
    """Return some of a run's events, in their order.

    Args:
        connection: A transaction.
        run_id: The run.
        after: The id after which they begin.
        limit: How many at most.
        kind: Those of this type; None for all.
    """
    wanted = select(events).where(events.c.run_id == run_id, events.c.id > after)
    if kind is not None:
        wanted = wanted.where(events.c.type == kind)
    return [_load(row) for row in connection.execute(wanted.order_by(events.c.id).limit(limit))]


def newest_id(connection: Connection, run_id: str) -> int:
    """Return the id of a run's newest event; 0 where it has none."""
    newest = select(func.max(events.c.id)).where(events.c.run_id == run_id)
    return connection.execute(newest).scalar() or 0


def append_event(
    connection: Connection,
    run_ids: Sequence[str],
    kind: EventType,
    time: Any,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Add an event to each of some runs.

    Args:
        connection: A transaction, which has locked the runs.
        run_ids: The runs.
        kind: The event's type.
        time: Its time: an expression of SQL, over columns of the run.
        data: What is to be said, the same of all.
    """
    if not run_ids:
        return
    newest = select(func.max(events.c.id)).where(events.c.run_id == runs.c.run_id)
    number = func.coalesce(newest.correlate(runs).scalar_subquery(), 0) + 1
    what = (literal(kind.value), literal(json.dumps(data or {})))
    rows_to_add = select(runs.c.run_id, number, time, *what).where(runs.c.run_id.in_(run_ids))
    connection.execute(insert(events).from_select(_COLUMNS, rows_to_add))


def append_cancelled(connection: Connection, run_ids: Sequence[str], error: ErrorDetail) -> None:
    """Add to runs that they were cancelled before they started."""
    what = ended(RunStatus.CANCELLED, 0, error)
    append_event(connection, run_ids, EventType.RUN_FINISHED, runs.c.finished_at, what)


def ended(
    status: RunStatus, duration_ms: float | None = None, error: ErrorDetail | None = None
) -> dict[str, Any]:
    """Return what is said of a run that has ended."""
    shown = None if error is None else asdict(error)
    return {"status": status, "duration_ms": duration_ms, "error": shown}


def ended_with(outcome: RunOutcome, progress: Progress | None) -> dict[str, Any]:
    """Return what is said of a run that has executed and ended."""
    numbers = {} if progress is None else asdict(progress)
    return {**ended(outcome.status, outcome.duration_ms, outcome.error), **numbers}


def _load(row: Any) -> Event:
    time = rows.from_ms(row.time)
    assert time is not None  # noqa: S101  it is no column that may be empty
    return Event(id=row.id, time=time, type=row.type, data=json.loads(row.data))
