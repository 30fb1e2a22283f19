"""Runs, their pipelines and events, and the servers that execute them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "servers",
        sa.Column("server_id", sa.String(32), primary_key=True),
        sa.Column("machine", sa.String(200), nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("pid_started_at", sa.Float, nullable=False),
        sa.Column("lease_ends_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(24), primary_key=True),
        sa.Column("project", sa.String(200), nullable=False),
        sa.Column("env", sa.String(200), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("duration_ms", sa.Float),
        sa.Column("cancel_requested_at", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("submitted_by", sa.String(200), nullable=False, server_default=""),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_hash", sa.String(64)),
        sa.Column("owner", sa.String(32)),
        sa.Column("held_by", sa.String(32)),
        sa.UniqueConstraint(
            "project", "env", "submitted_by", "idempotency_key", name="uq_runs_key"
        ),
    )
    scope = ["project", "env"]
    op.create_index("ix_runs_newest", "runs", [*scope, "run_id"])
    op.create_index("ix_runs_status", "runs", [*scope, "status", "run_id"])
    op.create_index("ix_runs_owner", "runs", ["status", "owner"])
    run_id = ("run_id", sa.String(24))
    of_a_run = ("runs.run_id",)
    op.create_table(
        "run_pipelines",
        sa.Column(*run_id, sa.ForeignKey(*of_a_run, ondelete="CASCADE"), primary_key=True),
        sa.Column("pipeline", sa.String(255), primary_key=True),
    )
    op.create_index("ix_run_pipelines_pipeline", "run_pipelines", ["pipeline", "run_id"])
    op.create_table(
        "events",
        sa.Column(*run_id, sa.ForeignKey(*of_a_run, ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
