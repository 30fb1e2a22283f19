"""The runs that ended first are found without a full scan."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
oldest_program = "0004"


def upgrade() -> None:
    """Create the index; meanwhile PostgreSQL lets others read, and makes writers wait."""
    op.create_index(
        "ix_runs_ended",
        "runs",
        ["project", "env", sa.text("coalesce(counts_from, finished_at)"), "run_id"],
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
