"""Keeps runs in SQL. Nothing outside this room imports SQLAlchemy."""

from __future__ import annotations

from kedro_flask_server.runs.store.database import Database, locate
from kedro_flask_server.runs.store.events import Told
from kedro_flask_server.runs.store.servers import ServerUnknownError
from kedro_flask_server.runs.store.store import Claim, RunStore

__all__ = ["Claim", "Database", "RunStore", "ServerUnknownError", "Told", "locate"]
