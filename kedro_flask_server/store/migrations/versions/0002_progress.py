"""The progress of each run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; earlier runs have no values."""
    op.add_column("runs", sa.Column("nodes_done", sa.Integer))
    op.add_column("runs", sa.Column("nodes_total", sa.Integer))
