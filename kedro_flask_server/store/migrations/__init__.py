"""The migrations of the schema, step by step (https://alembic.sqlalchemy.org)."""
