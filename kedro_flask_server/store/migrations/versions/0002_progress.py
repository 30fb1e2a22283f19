"""How far each run is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the numbers to the runs; those that ran before have none."""
    op.add_column("runs", sa.Column("nodes_done", sa.Integer))
    op.add_column("runs", sa.Column("nodes_total", sa.Integer))
