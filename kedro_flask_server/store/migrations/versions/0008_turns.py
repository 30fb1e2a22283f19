"""The order of queued runs: priorities, what holds each, its locks, and the limits in force."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
oldest_program = "0004"

_QUEUED = "status = 'queued'"
_READY = f"{_QUEUED} AND blocked_on IS NULL"
_BLOCKED = "blocked_on IS NOT NULL"
_DUE = f"{_QUEUED} AND queue_ends_at IS NOT NULL"


def upgrade() -> None:
    """Add columns and tables. The indexes contain queued runs alone, of which there are few."""
    columns = (
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("blocked_on", sa.String(300)),
        sa.Column("waiting_for", sa.Text),
        sa.Column("queue_ends_at", sa.BigInteger),
        sa.Column("locks_digest", sa.String(32)),
        sa.Column("warnings", sa.Text),
    )
    for column in columns:
        op.add_column("runs", column)
    newest_last = [sa.text("priority DESC"), "run_id"]
    _index("ix_runs_ready", ["project", "env", *newest_last], _READY)
    _index("ix_runs_ready_of", ["project", "env", "priority", "submitted_by", "run_id"], _READY)
    _index("ix_runs_blocked", ["blocked_on", "project", "env", *newest_last], _BLOCKED)
    _index("ix_runs_queue_ends", ["queue_ends_at"], _DUE)
    op.create_table(
        "run_locks",
        sa.Column(
            "run_id",
            sa.String(24),
            sa.ForeignKey("runs.run_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("location", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("mode", sa.String(2), primary_key=True),
        sa.Column("is_held", sa.SmallInteger, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("dataset", sa.String(255), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_run_locks_location",
        "run_locks",
        ["is_held", "location", "mode", "priority", "run_id"],
    )
    op.create_table(
        "queues",
        sa.Column("project", sa.String(200), primary_key=True),
        sa.Column("env", sa.String(200), primary_key=True),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("paused", sa.Text, nullable=False),
        sa.Column("is_restricted", sa.SmallInteger, nullable=False),
    )
    op.add_column("servers", sa.Column("newest_revision", sa.String(32)))
    op.add_column("api_keys", sa.Column("max_priority", sa.Integer))


def _index(name: str, columns: list[object], which: str) -> None:
    op.create_index(
        name,
        "runs",
        columns,  # type: ignore[arg-type]
        sqlite_where=sa.text(which),
        postgresql_where=sa.text(which),
    )
