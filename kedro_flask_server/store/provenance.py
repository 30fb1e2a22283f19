"""Stores what runs were made of, and what became of their nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection

from kedro_flask_server.model.provenance import PARTS, Provenance, RunSummary
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.schema import run_provenance

ProvenanceRow = tuple[str, str | None, str | None]
"""A run, what it was made of, and its summary, both in JSON; None leaves what is stored."""

_MAX_CHARS = 2_000_000

_COLUMNS = ("run_id", "made_of", "summary")


def provenance_row(
    run_id: str, provenance: Provenance | None, summary: RunSummary | None
) -> ProvenanceRow:
    """Return the row of a run."""
    made_of = None if provenance is None else json.dumps(provenance.dump())
    if provenance is not None and made_of is not None and len(made_of) > _MAX_CHARS:
        # A run's code can write to the pipe by which it comes.
        made_of = json.dumps(Provenance(lacks=PARTS).dump())
    return (run_id, made_of, None if summary is None else json.dumps(summary.dump()))


def put_provenance(
    database: Database, connection: Connection, rows: Sequence[ProvenanceRow]
) -> None:
    """Store what is known of runs, beside what is stored already."""
    known = [row for row in rows if row[1:] != (None, None)]
    database.insert(connection, run_provenance, _COLUMNS, known, updates_by="run_id")
