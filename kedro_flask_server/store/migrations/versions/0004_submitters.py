"""Callers who see only their own runs find them without a full scan."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_runs_submitter", "runs", ["project", "env", "submitted_by", "run_id"])
