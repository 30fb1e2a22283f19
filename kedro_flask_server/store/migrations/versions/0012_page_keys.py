"""What the cookies of pages are signed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
oldest_program = "0004"


def upgrade() -> None:
    """Add a table, which is empty until somebody signs in."""
    op.create_table(
        "page_keys",
        sa.Column("project", sa.String(200), primary_key=True),
        sa.Column("env", sa.String(200), primary_key=True),
        sa.Column("secret", sa.String(64), nullable=False),
    )
