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

run_pipelines = Table(
    "run_pipelines",
    metadata,
    Column("run_id", String(24), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("pipeline", String(255), primary_key=True),
    Index("ix_run_pipelines_pipeline", "pipeline", "run_id"),
)
"""The pipelines of each run."""

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
