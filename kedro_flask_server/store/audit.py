"""The audit log, in SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, String, delete, func, select

from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.rows import ascii_name, from_ms, to_ms
from kedro_flask_server.store.schema import audit

# Unauthenticated clients can cause any number of these alone.
_MAX_REFUSALS = 100_000

_HOUR_MS = 3_600_000

_LENGTHS: dict[str, int | None] = {
    column.name: column.type.length for column in audit.c if isinstance(column.type, String)
}


class AuditTrail:
    """The audit log of one project and environment, within the caller's transaction."""

    def __init__(self, *, project: str, env: str) -> None:
        """Select a project and environment."""
        self._scope_values = {"project": project, "env": env}
        self._is_here = (audit.c.project == project, audit.c.env == env)

    def add(self, database: Database, connection: Connection, *records: AuditRecord) -> None:
        """Add records; values longer than their column are cut."""
        rows = [self.row(record) for record in records]
        database.insert(connection, audit, [*rows[0]], [tuple(row.values()) for row in rows])

    def newest(self, connection: Connection, limit: int) -> list[AuditRecord]:
        """Return the newest records, the newest first."""
        newest = select(audit).where(*self._is_here).order_by(audit.c.id.desc()).limit(limit)
        return [_load(row) for row in connection.execute(newest)]

    def purge(self, connection: Connection, before: datetime) -> None:
        """Delete records before a time, and refusals beyond a large number.

        Each call deletes at most an hour's records, so that a clock which is wrong for a while does
        not delete all.
        """
        oldest = connection.execute(select(func.min(audit.c.time)).where(*self._is_here)).scalar()
        if oldest is not None:
            limit = min(to_ms(before), oldest + _HOUR_MS)
            connection.execute(delete(audit).where(*self._is_here, audit.c.time < limit))
        is_refusal = (*self._is_here, audit.c.what == "request.refused")
        newest = select(audit.c.id).where(*is_refusal).order_by(audit.c.id.desc())
        too_many = connection.execute(newest.offset(_MAX_REFUSALS).limit(1)).scalar()
        if too_many is not None:
            connection.execute(delete(audit).where(*is_refusal, audit.c.id <= too_many))

    def row(self, record: AuditRecord) -> dict[str, Any]:
        """Return the row of a record."""
        texts = {"who": record.who, "what": record.what, "subject": record.subject}
        texts["address"] = record.address
        fitting = {name: ascii_name(text)[: _LENGTHS[name]] for name, text in texts.items()}
        return {**self._scope_values, "time": to_ms(record.time), **fitting}


def _load(row: Any) -> AuditRecord:
    time = from_ms(row.time)
    assert time is not None  # noqa: S101  the column is not nullable
    return AuditRecord(
        time=time, who=row.who, what=row.what, subject=row.subject, address=row.address
    )
