"""Who sees their own runs alone finds them without a walk through all."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_runs_submitter", "runs", ["project", "env", "submitted_by", "run_id"])
