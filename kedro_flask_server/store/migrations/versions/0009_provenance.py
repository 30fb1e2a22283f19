"""What runs were made of, their labels, and the runs that retry others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
oldest_program = "0004"


def upgrade() -> None:
    """Add columns and tables, which are empty for the runs that there are."""
    columns = (
        sa.Column("labels", sa.Text),
        sa.Column("retry_of", sa.String(24)),
        sa.Column("chain_id", sa.String(24)),
        sa.Column("retried_by", sa.String(24)),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        sa.Column("retry_rule", sa.Text),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("submitted_from", sa.String(100)),
    )
    for column in columns:
        op.add_column("runs", column)
    in_chain = sa.text("chain_id IS NOT NULL")
    op.create_index(
        "ix_runs_chain", "runs", ["chain_id"], sqlite_where=in_chain, postgresql_where=in_chain
    )
    op.create_table(
        "run_labels",
        _of_run(),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(1_600), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_labels_name", "run_labels", ["name", "value", "run_id"])
    op.create_table(
        "run_provenance",
        _of_run(),
        sa.Column("made_of", sa.Text),
        sa.Column("summary", sa.Text),
        sa.Column("plan", sa.Text),
    )


def _of_run() -> sa.Column[str]:
    key = sa.ForeignKey("runs.run_id", ondelete="CASCADE")
    return sa.Column("run_id", sa.String(24), key, primary_key=True)
