"""The store: runs in SQL. No other package imports SQLAlchemy."""

from __future__ import annotations

from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import PendingEvents
from kedro_flask_server.store.new_runs import AddedRun, NewRun
from kedro_flask_server.store.queue import ClaimedRun
from kedro_flask_server.store.runs import RunStore
from kedro_flask_server.store.servers import ServerUnknownError
from kedro_flask_server.store.url import locate

__all__ = [
    "AddedRun",
    "ClaimedRun",
    "Database",
    "NewRun",
    "PendingEvents",
    "RunStore",
    "ServerUnknownError",
    "locate",
]
