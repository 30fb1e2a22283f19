"""The events of runs: appended in order, in the transactions that change the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from kedro_flask_server.model.data_exchange import Output
from kedro_flask_server.model.event import Event, EventType
from kedro_flask_server.model.provenance import Provenance, RunSummary
from kedro_flask_server.model.run import ErrorDetail, Progress, RunOutcome, RunStatus
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.provenance import provenance_row, put_provenance
from kedro_flask_server.store.schema import events, runs

EventRow = tuple[str, int, int, str, str]
"""An event's run, number, time, type and data."""

_COLUMNS = ("run_id", "id", "time", "type", "data")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvents:
    """The events of an executing run that are not stored yet.

    Attributes:
        server_id: The server that executes it.
        events: The events, numbered.
        last_id: The id of the newest event, including these; None where it is not known.
        progress: The progress of the run after these events.
        provenance: What the run was made of, if that is not stored yet.
        summary: Its nodes and datasets, once it has ended.
        outputs: What is kept of the datasets that it has made, once it has ended.
    """

    server_id: str
    events: list[Event]
    last_id: int | None = None
    progress: Progress | None = None
    provenance: Provenance | None = None
    summary: RunSummary | None = None
    outputs: Mapping[str, Output] = field(default_factory=dict)

    @property
    def is_news(self) -> bool:
        """Whether there is something to store."""
        return bool(self.events) or self.provenance is not None


class EventStore:
    """The events of a database's runs."""

    def __init__(self, database: Database) -> None:
        """Store the events of a database's runs.

        Args:
            database: The database.
        """
        self._database = database

    def add(self, told: Mapping[str, PendingEvents]) -> None:
        """Store pending events of runs, in one transaction.

        Events are skipped if their run is no longer executing, or if they are stored already.

        Args:
            told: The pending events, by run id.
        """
        new = {run_id: rows_of(run_id, each.events) for run_id, each in told.items()}
        if not self._database.is_sqlite:
            self._add_at_once(told, new)
            return
        with self._database.writing() as connection:
            # Locked, so that nothing is added after its end if its server is reaped meanwhile.
            running = select(runs.c.run_id, runs.c.owner).where(
                runs.c.run_id.in_(told), runs.c.status == RunStatus.RUNNING
            )
            found = connection.execute(running.with_for_update(read=True)).all()
            for row in found:
                pending = told[row.run_id]
                if row.owner != pending.server_id:
                    continue
                add_rows(self._database, connection, new[row.run_id])
                made_of = provenance_row(row.run_id, pending.provenance, None)
                put_provenance(self._database, connection, [made_of])
                progress = pending.progress
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
                "made_of": provenance_row(run_id, each.provenance, None)[1],
            }
            for run_id, each in told.items()
        ]
        statements.append_events(
            self._database, of_runs, [row for each in new.values() for row in each]
        )


def rows_of(run_id: str, told: Iterable[Event]) -> list[EventRow]:
    """Return the rows of a run's events."""
    return [
        (run_id, event.id, rows.to_ms(event.time), str(event.type), json.dumps(event.data))
        for event in told
    ]


def add_rows(database: Database, connection: Connection, rows: Sequence[EventRow]) -> None:
    """Insert events that are not stored; the transaction has checked that their runs execute."""
    database.insert(connection, events, _COLUMNS, rows, or_ignore=True)


def events_after(
    connection: Connection, run_id: str, after: int, limit: int, kind: EventType | None
) -> list[Event]:
    """Return a page of a run's events, in order.

    Args:
        connection: A transaction.
        run_id: The run.
        after: The id after which they begin.
        limit: The maximum number of events.
        kind: Events of this type; None for all.
    """
    wanted = select(events).where(events.c.run_id == run_id, events.c.id > after)
    if kind is not None:
        wanted = wanted.where(events.c.type == kind)
    return [
        load_event(row) for row in connection.execute(wanted.order_by(events.c.id).limit(limit))
    ]


def log_records(
    connection: Connection, run_id: str, *, before: int | None, limit: int
) -> list[Event]:
    """Return the last of a run's log records, in order.

    Args:
        connection: A transaction.
        run_id: The run.
        before: The id of an event that they come before; None for the end.
        limit: The maximum number.
    """
    wanted = select(events).where(events.c.run_id == run_id, events.c.type == EventType.LOG.value)
    if before is not None:
        wanted = wanted.where(events.c.id < before)
    newest = connection.execute(wanted.order_by(events.c.id.desc()).limit(limit))
    return [load_event(row) for row in newest][::-1]


def newest_event(connection: Connection, run_id: str) -> Event | None:
    """Return a run's newest event; None if it has none."""
    newest = select(events).where(events.c.run_id == run_id).order_by(events.c.id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return None if row is None else load_event(row)


def newest_id(connection: Connection, run_id: str) -> int:
    """Return the id of a run's newest event; 0 if it has none."""
    newest = select(func.max(events.c.id)).where(events.c.run_id == run_id)
    return connection.execute(newest).scalar() or 0


def append_event(
    connection: Connection,
    run_ids: Sequence[str],
    kind: EventType,
    time: Any,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Append an event to each of some runs.

    Args:
        connection: A transaction, which has locked the runs.
        run_ids: The runs.
        kind: The event's type.
        time: Its time: an SQL expression over columns of the run.
        data: Its content, the same for all.
    """
    if not run_ids:
        return
    newest = select(func.max(events.c.id)).where(events.c.run_id == runs.c.run_id)
    number = func.coalesce(newest.correlate(runs).scalar_subquery(), 0) + 1
    what = (literal(kind.value), literal(json.dumps(data or {})))
    rows_to_add = select(runs.c.run_id, number, time, *what).where(runs.c.run_id.in_(run_ids))
    connection.execute(insert(events).from_select(_COLUMNS, rows_to_add))


def append_cancelled(connection: Connection, run_ids: Sequence[str], error: ErrorDetail) -> None:
    """Append to runs that they were cancelled before they started."""
    what = ended(RunStatus.CANCELLED, 0, error)
    append_event(connection, run_ids, EventType.RUN_FINISHED, runs.c.finished_at, what)


def ended(
    status: RunStatus, duration_ms: float | None = None, error: ErrorDetail | None = None
) -> dict[str, Any]:
    """Return the content of the event that a run has ended."""
    shown = None if error is None else replace(error, problems=None).dump()
    return {"status": status, "duration_ms": duration_ms, "error": shown}


def ended_with(outcome: RunOutcome, progress: Progress | None) -> dict[str, Any]:
    """Return the content of the event that a run has executed and ended."""
    numbers = {} if progress is None else asdict(progress)
    return {**ended(outcome.status, outcome.duration_ms, outcome.error), **numbers}


def load_event(row: Any) -> Event:
    """Return the event of a row of `schema.events`."""
    time = rows.from_ms(row.time)
    assert time is not None  # noqa: S101  the column is not nullable
    return Event(id=row.id, time=time, type=row.type, data=json.loads(row.data))
