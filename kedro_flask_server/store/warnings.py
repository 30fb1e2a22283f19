"""Warnings about runs."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select, update

from kedro_flask_server.store.schema import runs

# Per run; more would be no help.
_MAX_WARNINGS = 50


def add_warning(connection: Connection, run_id: str, text: str) -> None:
    """Add a warning to a run, unless it has it or has many."""
    of_run = runs.c.run_id == run_id
    locked = select(runs.c.warnings).where(of_run).with_for_update()
    row = connection.execute(locked).one_or_none()
    known = json.loads(row.warnings) if row is not None and row.warnings else []
    if row is not None and text not in known and len(known) < _MAX_WARNINGS:
        change = {"warnings": json.dumps([*known, text])}
        connection.execute(update(runs).where(of_run).values(change))
