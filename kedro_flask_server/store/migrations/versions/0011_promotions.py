"""What served pipelines were asked to load."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
oldest_program = "0004"


def upgrade() -> None:
    """Add a table, which is empty until somebody asks."""
    op.create_table(
        "promotions",
        sa.Column("project", sa.String(200), primary_key=True),
        sa.Column("env", sa.String(200), primary_key=True),
        sa.Column("pipeline", sa.String(400), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("promoted_at", sa.BigInteger, nullable=False),
        sa.Column("promoted_by", sa.String(200), nullable=False),
    )
