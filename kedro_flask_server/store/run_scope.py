"""The runs of one project and environment, among all of a database."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from kedro_flask_server.store.database import Database
from kedro_flask_server.store.schema import runs

IN_SCOPE = (runs.c.project == bindparam("project"), runs.c.env == bindparam("env"))
"""The condition of a `Prepared` statement, whose values are `RunScope.values`."""


class RunScope:
    """A project and environment, whose runs are counted and queued separately."""

    def __init__(self, project: str, env: str) -> None:
        """Select a project and environment."""
        self.project = project
        self.env = env
        self.values = {"project": project, "env": env}
        self.is_of_run = (runs.c.project == project, runs.c.env == env)
        """The condition of a statement over the runs."""
        digest = hashlib.sha256(f"{project}\0{env}".encode()).digest()
        self.lock_key = int.from_bytes(digest[:8], "big", signed=True)
        """The key of the advisory lock of transactions that count rows before they change them."""

    def lock(self, database: Database, connection: Connection) -> None:
        """Make other transactions that count rows before they change them wait."""
        database.lock(connection, self.lock_key)

    def count(self, connection: Connection, *conditions: Any) -> int:
        """Return how many runs fulfil conditions."""
        statement = select(func.count()).select_from(runs).where(*self.is_of_run, *conditions)
        return int(connection.execute(statement).scalar() or 0)
