"""What is stored of the data of runs: sizes, types, hashes and small values, never the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, func, select, text, update

from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.data_exchange import Output, RunOutputs
from kedro_flask_server.model.run import RunRequest, RunStatus, Submitter
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import now_ms, run_data, runs

_MAX_EXPIRED = 200

# As in the partial index, which a parameter would keep from being used.
_IS_STORED = text("run_data.stored_bytes > 0 AND run_data.deleted_at IS NULL")


def put_given(database: Database, connection: Connection, run_id: str, request: RunRequest) -> None:
    """Store what a new run was given."""
    exchange = request.exchange
    if exchange is not None and exchange.folder is not None:
        columns = ("run_id", "given_folder", "stored_bytes")
        # A folder counts even if all of its files are empty.
        row = (run_id, exchange.folder, exchange.size_bytes or 1)
        database.insert(connection, run_data, columns, [row])


class OutputsRow(NamedTuple):
    """What a run that ends has made of what it was to return; all None if that is nothing."""

    run_id: str
    returned_folder: str | None = None
    outputs: str | None = None
    stored_bytes: int | None = None


def outputs_row(run_id: str, request: RunRequest, outputs: Mapping[str, Output]) -> OutputsRow:
    """Return the row of a run."""
    if not outputs:
        return OutputsRow(run_id)
    exchange = request.exchange
    given = 0 if exchange is None or exchange.folder is None else exchange.size_bytes or 1
    sizes = [each.size_bytes or 1 for each in outputs.values() if each.file is not None]
    content = json.dumps({name: each.dump() for name, each in outputs.items()})
    return OutputsRow(run_id, run_id if sizes else None, content, given + sum(sizes))


def put_outputs(database: Database, connection: Connection, row: OutputsRow) -> None:
    """Store the row of a run, unless there is nothing in it."""
    if row.outputs is not None:
        database.insert(connection, run_data, row._fields, [row], updates_by="run_id")


class RunDataStore:
    """The data of the runs of one project and environment."""

    def __init__(self, database: Database, scope: RunScope) -> None:
        """Store them in a database."""
        self._database = database
        self._scope = scope
        self._trail = AuditTrail(project=scope.project, env=scope.env)

    def of(self, run_id: str) -> RunOutputs:
        """Return what is kept of the data of a run."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(run_data).where(run_data.c.run_id == run_id)
            ).one_or_none()
        if row is None:
            return RunOutputs()
        found = json.loads(row.outputs) if row.outputs else {}
        return RunOutputs(
            folder=row.returned_folder,
            outputs={name: Output.load(each) for name, each in found.items()},
            deleted_at=row.deleted_at,
        )

    def stored_bytes(self) -> int:
        """Return the size of all data that is stored, of all projects of the database."""
        total = select(func.coalesce(func.sum(run_data.c.stored_bytes), 0)).where(_IS_STORED)
        with self._database.reading() as connection:
            return int(connection.execute(total).scalar() or 0)

    def delete(self, run_id: str, by: Submitter) -> None:
        """Note that the data of a run is deleted, and by whom."""
        kept = self.of(run_id).outputs
        bare = {name: replace(each, value=None).dump() for name, each in kept.items()}
        with self._database.writing() as connection:
            self._mark_deleted(connection, [run_id])
            is_run = run_data.c.run_id == run_id
            connection.execute(update(run_data).where(is_run).values(outputs=json.dumps(bare)))
            record = AuditRecord.of(by.name, "outputs.deleted", run_id, address=by.address)
            self._trail.add(self._database, connection, record)

    def expire(self, keep_hours: float) -> bool:
        """Note that the data of runs is deleted that ended so many hours ago.

        Returns:
            Whether there may be more.
        """
        oldest = now_ms() - round(keep_hours * 3_600_000)
        expired = (
            select(run_data.c.run_id)
            .select_from(run_data.join(runs, runs.c.run_id == run_data.c.run_id))
            .where(_IS_STORED, *self._scope.is_of_run, runs.c.finished_at < oldest)
            .limit(_MAX_EXPIRED)
        )
        with self._database.reading() as connection:
            found = [*connection.execute(expired).scalars()]
        if found:
            with self._database.writing() as connection:
                self._mark_deleted(connection, found)
        return len(found) == _MAX_EXPIRED

    def _mark_deleted(self, connection: Connection, run_ids: Sequence[str]) -> None:
        which = (run_data.c.run_id.in_(run_ids), run_data.c.deleted_at.is_(None))
        connection.execute(update(run_data).where(*which).values(deleted_at=now_ms()))

    def has_folder(self, folder: str) -> bool:
        """Return whether a run was given the data of a folder."""
        found = select(run_data.c.run_id).where(_IS_STORED, run_data.c.given_folder == folder)
        with self._database.reading() as connection:
            return connection.execute(found.limit(1)).first() is not None

    def folders_in_use(self) -> set[str]:
        """Return the folders of data that is stored, of all projects of the database."""
        found: set[str] = set()
        with self._database.reading() as connection:
            for column in (run_data.c.given_folder, run_data.c.returned_folder):
                in_use = select(column).where(_IS_STORED, column.is_not(None))
                found.update(connection.execute(in_use).scalars())
            running = select(runs.c.run_id).where(runs.c.status == RunStatus.RUNNING)
            found.update(connection.execute(running).scalars())
        return found
