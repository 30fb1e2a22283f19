"""The store records which programs may use it, so that later steps need not stop all servers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
oldest_program = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "schema_revisions",
        sa.Column("revision", sa.String(32), primary_key=True),
        sa.Column("oldest_program", sa.String(32), nullable=False),
    )
