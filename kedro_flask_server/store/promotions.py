"""Which versions served pipelines are to load, where somebody has said so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.run import Submitter
from kedro_flask_server.store import rows
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.run_scope import RunScope
from kedro_flask_server.store.schema import now_ms, promotions


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What a served pipeline was asked to load last.

    Attributes:
        number: How often that was asked, from 1; 0 for never.
        versions: The datasets, each with its version; those that are not there follow the newest.
    """

    number: int = 0
    versions: Mapping[str, str]


class PromotionStore:
    """The promotions of one project and environment."""

    def __init__(self, database: Database, scope: RunScope) -> None:
        """Store them in a database."""
        self._database = database
        self._scope = scope
        self._trail = AuditTrail(project=scope.project, env=scope.env)

    def of(self, pipeline: str) -> Promotion:
        """Return what a pipeline was asked to load last."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(promotions.c.number, promotions.c.versions).where(*self._is_of(pipeline))
            ).one_or_none()
        if row is None:
            return Promotion(versions={})
        return Promotion(number=row.number, versions=json.loads(row.versions))

    def put(self, pipeline: str, versions: Mapping[str, str], by: Submitter) -> Promotion:
        """Store what a pipeline is to load, on all servers.

        Args:
            pipeline: The pipeline.
            versions: The datasets, each with its version.
            by: The caller who asks for it.
        """
        values = _values(versions, by)
        try:
            number = self._write(pipeline, values, by)
        except IntegrityError:  # another server was the first to insert it
            number = self._write(pipeline, values, by)
        return Promotion(number=number, versions=versions)

    def put_first(self, pipeline: str, versions: Mapping[str, str], by: Submitter) -> Promotion:
        """Store what a pipeline has loaded first, as `put` does; one that is there stays."""
        name = rows.ascii_name(pipeline)
        row = {**self._scope.values, "pipeline": name, "number": 1, **_values(versions, by)}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(promotions).values(row))
                self._record(connection, pipeline, by)
        except IntegrityError:  # another server was the first
            return self.of(pipeline)
        return Promotion(number=1, versions=versions)

    def _write(self, pipeline: str, values: dict[str, Any], by: Submitter) -> int:
        """Store a promotion, and return its number."""
        is_of = self._is_of(pipeline)
        with self._database.writing() as connection:
            changed = connection.execute(
                update(promotions).where(*is_of).values(number=promotions.c.number + 1, **values)
            )
            if changed.rowcount == 0:
                name = rows.ascii_name(pipeline)
                row = {**self._scope.values, "pipeline": name, "number": 1, **values}
                connection.execute(insert(promotions).values(row))
            self._record(connection, pipeline, by)
            found = connection.execute(select(promotions.c.number).where(*is_of)).scalar_one()
        return int(found)

    def _record(self, connection: Connection, pipeline: str, by: Submitter) -> None:
        record = AuditRecord.of(by.name, "pipeline.reloaded", pipeline, address=by.address)
        self._trail.add(self._database, connection, record)

    def _is_of(self, pipeline: str) -> tuple[Any, ...]:
        return (
            promotions.c.project == self._scope.project,
            promotions.c.env == self._scope.env,
            promotions.c.pipeline == rows.ascii_name(pipeline),
        )


def _values(versions: Mapping[str, str], by: Submitter) -> dict[str, Any]:
    return {
        "versions": json.dumps(dict(versions)),
        "promoted_at": now_ms(),
        "promoted_by": by.name,
    }
