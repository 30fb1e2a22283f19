"""The data that requests give to runs, and that runs return."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
oldest_program = "0004"


def upgrade() -> None:
    """Add a table, which is empty for the runs that there are."""
    key = sa.ForeignKey("runs.run_id", ondelete="CASCADE")
    op.create_table(
        "run_data",
        sa.Column("run_id", sa.String(24), key, primary_key=True),
        sa.Column("given_folder", sa.String(40)),
        sa.Column("returned_folder", sa.String(40)),
        sa.Column("outputs", sa.Text),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("deleted_at", sa.BigInteger),
    )
    is_stored = sa.text("stored_bytes > 0 AND deleted_at IS NULL")
    op.create_index(
        "ix_run_data_stored",
        "run_data",
        ["run_id"],
        sqlite_where=is_stored,
        postgresql_where=is_stored,
    )
