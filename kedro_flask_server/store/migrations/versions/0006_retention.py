"""The start of retention, where that is not the run's end by the clock of that time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
oldest_program = "0004"


def upgrade() -> None:
    """Add the column; most runs have no value."""
    op.add_column("runs", sa.Column("counts_from", sa.BigInteger))
