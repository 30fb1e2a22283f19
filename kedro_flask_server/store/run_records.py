"""Reads what is stored of runs beside their rows."""

from __future__ import annotations

import json
from contextlib import suppress

from sqlalchemy import Connection, select

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.provenance import Provenance, RunRecord, RunSummary
from kedro_flask_server.store.events import load_event
from kedro_flask_server.store.schema import events, run_provenance, runs

_TOLD = [each.value for each in EventType if each.value.startswith(("node.", "dataset."))]


def read_record(connection: Connection, run_id: str) -> RunRecord:
    """Return what is stored of a run beside its row.

    Without a summary, as of a run whose server died, or if that is not whole, its events have it.
    """
    row = connection.execute(
        select(runs.c.submitted_from, run_provenance)
        .select_from(runs.outerjoin(run_provenance, run_provenance.c.run_id == runs.c.run_id))
        .where(runs.c.run_id == run_id)
    ).one()
    provenance = None
    if row.made_of is not None:
        with suppress(ValueError):  # of a later version
            provenance = Provenance.load(json.loads(row.made_of))
    summary = None if row.summary is None else RunSummary.load(json.loads(row.summary))
    if summary is None or not summary.is_whole:
        told = select(events).where(events.c.run_id == run_id, events.c.type.in_(_TOLD))
        found = connection.execute(told.order_by(events.c.id))
        summary = RunSummary.of(map(load_event, found))
    return RunRecord(
        provenance=provenance,
        summary=summary,
        has_stored_summary=row.summary is not None,
        submitted_from=row.submitted_from,
        plan=None if row.plan is None else json.loads(row.plan),
    )
