"""Keeps runs in SQL. Nothing outside this room imports SQLAlchemy."""

from __future__ import annotations

from kedro_flask_server.store.database import Database, locate
from kedro_flask_server.store.events import PendingEvents
from kedro_flask_server.store.servers import ServerUnknownError
from kedro_flask_server.store.store import ClaimedRun, RunStore

__all__ = ["ClaimedRun", "Database", "PendingEvents", "RunStore", "ServerUnknownError", "locate"]
