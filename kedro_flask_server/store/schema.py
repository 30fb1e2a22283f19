"""The tables, as the newest migration leaves them.

A run's id is also its admission time, and its rank among all others. Other times are whole
milliseconds since 1970-01-01T00:00:00Z, by the database's clock. Text from clients is JSON in
ASCII: a request may contain lone surrogates, NUL characters and NaN, which no database accepts
unescaped.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    case,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

metadata = MetaData()

servers = Table(
    "servers",
    metadata,
    Column("server_id", String(32), primary_key=True),
    # A boot of a machine, and a namespace of process ids on it.
    Column("machine", String(200), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("pid_started_at", Float, nullable=False),
    Column("lease_ends_at", BigInteger, nullable=False),
    # The newest revision that its program knows; NULL for one before 0008, which ignores locks.
    Column("newest_revision", String(32)),
)
"""The running server processes, each with its lease."""

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(24), primary_key=True),
    Column("project", String(200), nullable=False),
    Column("env", String(200), nullable=False),
    Column("status", String(10), nullable=False),
    Column("request", Text, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("duration_ms", Float),
    Column("cancel_requested_at", BigInteger),
    Column("error", Text),
    # The number of nodes; NULL if they are not counted.
    Column("nodes_done", Integer),
    Column("nodes_total", Integer),
    # Empty if the caller is not known: unique constraints treat NULLs as distinct.
    Column("submitted_by", String(200), nullable=False, server_default=""),
    Column("idempotency_key", String(255)),
    Column("request_hash", String(64)),
    # The server that executes it, or did.
    Column("owner", String(32)),
    # The server at which its only client waits; no other may claim it.
    Column("held_by", String(32)),
    # The start of retention, if that is not `finished_at`.
    Column("counts_from", BigInteger),
    # From -100 to 100; the highest is next.
    Column("priority", Integer, nullable=False, server_default="0"),
    # Why a queued run may not start (`turns.Block.key`); NULL where it waits for a slot alone.
    Column("blocked_on", String(300)),
    # The same for callers, in JSON.
    Column("waiting_for", Text),
    # When it fails with QueueTimeout.
    Column("queue_ends_at", BigInteger),
    # Of its locks; NULL where what it reads and writes is not known.
    Column("locks_digest", String(32)),
    # A JSON list of texts.
    Column("warnings", Text),
    # JSON, as in `run_labels`.
    Column("labels", Text),
    # The run that it retries; the first of the chain; its own retry; its number in the chain.
    Column("retry_of", String(24)),
    Column("chain_id", String(24)),
    Column("retried_by", String(24)),
    Column("attempt", Integer, nullable=False, server_default="1"),
    # JSON: `model.retry_rule.RetryRule`.
    Column("retry_rule", Text),
    # When the delay of a retry ends.
    Column("not_before", BigInteger),
    # The address that it was sent from.
    Column("submitted_from", String(100)),
    UniqueConstraint("project", "env", "submitted_by", "idempotency_key", name="uq_runs_key"),
    Index("ix_runs_newest", "project", "env", "run_id"),
    Index("ix_runs_submitter", "project", "env", "submitted_by", "run_id"),
    Index("ix_runs_status", "project", "env", "status", "run_id"),
    Index("ix_runs_owner", "status", "owner"),
)
"""The runs."""

Index(
    "ix_runs_ended",
    runs.c.project,
    runs.c.env,
    text("coalesce(counts_from, finished_at)"),
    runs.c.run_id,
    sqlite_where=runs.c.finished_at.is_not(None),
    postgresql_where=runs.c.finished_at.is_not(None),
)

_QUEUED = "status = 'queued'"

for _name, _columns, _which in (
    (
        "ix_runs_ready",
        (runs.c.project, runs.c.env, runs.c.priority.desc(), runs.c.run_id),
        f"{_QUEUED} AND blocked_on IS NULL",
    ),
    (
        "ix_runs_ready_of",
        (runs.c.project, runs.c.env, runs.c.priority, runs.c.submitted_by, runs.c.run_id),
        f"{_QUEUED} AND blocked_on IS NULL",
    ),
    (
        "ix_runs_blocked",
        (runs.c.blocked_on, runs.c.project, runs.c.env, runs.c.priority.desc(), runs.c.run_id),
        "blocked_on IS NOT NULL",
    ),
    ("ix_runs_queue_ends", (runs.c.queue_ends_at,), f"{_QUEUED} AND queue_ends_at IS NOT NULL"),
):
    Index(_name, *_columns, sqlite_where=text(_which), postgresql_where=text(_which))

IS_QUEUED = text("runs.status = 'queued'")
"""A condition that the partial indexes of queued runs contain, as a parameter is not."""

IS_STILL_QUEUED = text("runs.status || '' = 'queued'")
"""The same where rows must be found by another column: SQLite would take an index of statuses."""

Index(
    "ix_runs_chain",
    runs.c.chain_id,
    sqlite_where=runs.c.chain_id.is_not(None),
    postgresql_where=runs.c.chain_id.is_not(None),
)

run_locks = Table(
    "run_locks",
    metadata,
    Column("run_id", String(24), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    # A hash of a location, or of a folder above one (`model.data_access`).
    Column("location", BigInteger, primary_key=True, autoincrement=False),
    Column("mode", String(2), primary_key=True),
    # 1 while the run executes, 0 while it is queued.
    Column("is_held", SmallInteger, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("dataset", String(255), nullable=False),
    Index("ix_run_locks_location", "is_held", "location", "mode", "priority", "run_id"),
    sqlite_with_rowid=False,
)
"""What queued and executing runs read and write."""

queues = Table(
    "queues",
    metadata,
    Column("project", String(200), primary_key=True),
    Column("env", String(200), primary_key=True),
    # JSON: `QueueLimits`, and the names of paused pipelines, "" for all of them.
    Column("limits", Text, nullable=False),
    Column("paused", Text, nullable=False),
    # 1 where any of both holds a run.
    Column("is_restricted", SmallInteger, nullable=False),
)
"""The limits in force, and what is paused, for each project and environment."""

run_pipelines = Table(
    "run_pipelines",
    metadata,
    Column("run_id", String(24), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("pipeline", String(255), primary_key=True),
    Index("ix_run_pipelines_pipeline", "pipeline", "run_id"),
)
"""The pipelines of each run."""

run_labels = Table(
    "run_labels",
    metadata,
    Column("run_id", String(24), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", String(1_600), nullable=False),
    Index("ix_run_labels_name", "name", "value", "run_id"),
    sqlite_with_rowid=False,
)
"""The labels of each run; values as `rows.ascii_name` returns them."""

run_provenance = Table(
    "run_provenance",
    metadata,
    Column("run_id", String(24), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    # JSON: what it was made of (`model.provenance.Provenance`), as of its start.
    Column("made_of", Text),
    # JSON: its nodes and datasets (`model.provenance.RunSummary`), as of its end.
    Column("summary", Text),
    # JSON, of a retry: what of its chain it runs, and why (`model.retry.RetryPlan`).
    Column("plan", Text),
)
"""What each run was made of, and what became of its nodes; none for runs before 0009."""

run_data = Table(
    "run_data",
    metadata,
    Column("run_id", String(24), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    # The folders of what the request gave, and of what the run returned (`run_files`).
    Column("given_folder", String(40)),
    Column("returned_folder", String(40)),
    # JSON: `model.data_exchange.Output` by dataset.
    Column("outputs", Text),
    # The size of both folders.
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    Column("deleted_at", BigInteger),
)
"""The data of runs that were given or have returned some."""

Index(
    "ix_run_data_stored",
    run_data.c.run_id,
    sqlite_where=text("stored_bytes > 0 AND deleted_at IS NULL"),
    postgresql_where=text("stored_bytes > 0 AND deleted_at IS NULL"),
)

events = Table(
    "events",
    metadata,
    Column("run_id", String(24), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("type", String(40), nullable=False),
    Column("data", Text, nullable=False),
)
"""The events of each run, numbered from 1; append-only."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("project", String(200), primary_key=True),
    Column("env", String(200), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("scopes", String(100), nullable=False),
    # JSON, like the scopes.
    Column("pipelines", Text),
    Column("max_active", Integer),
    Column("max_queued", Integer),
    Column("max_priority", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
)
"""The API keys of callers, including revoked ones."""

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("project", String(200), nullable=False),
    Column("env", String(200), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("who", String(200), nullable=False),
    Column("what", String(40), nullable=False),
    Column("subject", String(400), nullable=False),
    Column("address", String(100), nullable=False),
    Index("ix_audit_newest", "project", "env", "id"),
)
"""The audit log; append-only, until records are too old."""

promotions = Table(
    "promotions",
    metadata,
    Column("project", String(200), primary_key=True),
    Column("env", String(200), primary_key=True),
    Column("pipeline", String(400), primary_key=True),
    # How often this was asked: what a server has not seen yet has a higher one.
    Column("number", Integer, nullable=False),
    # JSON: the datasets, each with its version.
    Column("versions", Text, nullable=False),
    Column("promoted_at", BigInteger, nullable=False),
    Column("promoted_by", String(200), nullable=False),
)
"""What served pipelines were asked to load last."""

page_keys = Table(
    "page_keys",
    metadata,
    Column("project", String(200), primary_key=True),
    Column("env", String(200), primary_key=True),
    Column("secret", String(64), nullable=False),
)
"""What the cookies of pages are signed with."""

alembic_version = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""The revision of the schema; Alembic makes the same table where it migrates."""

schema_revisions = Table(
    "schema_revisions",
    metadata,
    Column("revision", String(32), primary_key=True),
    Column("oldest_program", String(32), nullable=False),
)
"""For each revision of the schema, the oldest program that may use it; never migrated itself."""


class now_ms(GenericFunction[int]):  # noqa: N801  a function of SQL
    """The time by the database's clock, in milliseconds since 1970-01-01T00:00:00Z."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _now_in_sqlite(element: now_ms, compiler: Any, **_: Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _now_in_postgresql(element: now_ms, compiler: Any, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


def now_or(earliest: Any) -> Any:
    """Return the time by the database's clock, or another one if that is later.

    Run ids may be ahead of the clock, and the database's clock behind this machine's.
    """
    return case((now_ms() < earliest, earliest), else_=now_ms())
