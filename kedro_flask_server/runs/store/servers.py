"""The servers that execute runs, and what becomes of the runs of those that are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update

from kedro_flask_server.runs.events import EventType
from kedro_flask_server.runs.model import ErrorDetail, RunStatus
from kedro_flask_server.runs.presence import ServerProcess
from kedro_flask_server.runs.store import rows
from kedro_flask_server.runs.store.database import Database
from kedro_flask_server.runs.store.events import ended, tell, tell_cancelled
from kedro_flask_server.runs.store.schema import now_ms, now_or, runs, servers

_LOST = ErrorDetail(
    type="RunLost",
    message="The server that executed the run died without a word; the run may have done a part "
    "of its work.",
)


class ServerStore:
    """The servers of a database, whatever project they serve."""

    def __init__(self, database: Database) -> None:
        """Keep the servers of a database.

        Args:
            database: The database.
        """
        self._database = database

    def register(self, server: ServerProcess, lease_s: float) -> None:
        """Make a server known, and give it a lease.

        Args:
            server: The server.
            lease_s: For how many seconds, by the database's clock.
        """
        with self._database.writing() as connection:
            row = {**asdict(server), "lease_ends_at": now_ms() + round(lease_s * 1000)}
            connection.execute(insert(servers).values(row))

    def renew(self, server_id: str, lease_s: float) -> bool:
        """Extend a server's lease.

        Returns:
            Whether it still is known: if not, others have taken it for dead.
        """
        ends_at = now_ms() + round(lease_s * 1000)
        statement = update(servers).values(lease_ends_at=ends_at)
        with self._database.writing() as connection:
            result = connection.execute(statement.where(servers.c.server_id == server_id))
            return result.rowcount == 1

    def bury(self, is_dead: Callable[[ServerProcess, bool], bool]) -> list[str]:
        """Forget the servers that are dead, and record what became of their runs.

        Args:
            is_dead: Says of a server, and of whether its lease is over, whether it is dead.

        Returns:
            The ids of the runs that are lost.
        """
        is_over = servers.c.lease_ends_at < now_ms()
        with self._database.reading() as connection:
            found = connection.execute(select(servers, is_over.label("is_over"))).all()
        dead = []
        for row in found:
            values = row._asdict()
            over = bool(values.pop("is_over"))
            lease_ends_at = values.pop("lease_ends_at")
            if is_dead(ServerProcess(**values), over):
                # One that has renewed its lease since then is none.
                dead.append((row.server_id, lease_ends_at))
        return self._forget_servers(dead) if dead else self._settle_if_needed()

    def unregister(self, server_id: str) -> None:
        """Forget a server that ends, and record what became of what it leaves."""
        with self._database.writing() as connection:
            connection.execute(delete(servers).where(servers.c.server_id == server_id))
            self._settle(connection)

    def _forget_servers(self, dead: list[tuple[str, int]]) -> list[str]:
        statement = delete(servers).where(
            tuple_(servers.c.server_id, servers.c.lease_ends_at).in_(dead)
        )
        with self._database.writing() as connection:
            connection.execute(statement)
            return self._settle(connection)

    def _settle_if_needed(self) -> list[str]:
        with self._database.reading() as connection:
            statement = select(func.count()).select_from(runs).where(_is_lost() | _is_forsaken())
            if not connection.execute(statement).scalar():
                return []
        with self._database.writing() as connection:
            return self._settle(connection)

    def _settle(self, connection: Connection) -> list[str]:
        """End the runs of servers that are gone: what ran is lost, what they held cancelled."""
        lost = _locked(connection, _is_lost())
        forsaken = _locked(connection, _is_forsaken())
        now = now_or(func.coalesce(runs.c.started_at, 0))
        connection.execute(
            update(runs)
            .where(runs.c.run_id.in_(lost))
            .values(status=RunStatus.LOST, error=rows.dump_error(_LOST), finished_at=now)
        )
        what = ended(RunStatus.LOST, error=_LOST)
        tell(connection, lost, EventType.RUN_FINISHED, runs.c.finished_at, what)
        connection.execute(
            update(runs)
            .where(runs.c.run_id.in_(forsaken))
            .values(rows.cancelled(now, rows.FORSAKEN))
        )
        tell_cancelled(connection, forsaken, rows.FORSAKEN)
        rows.redact_requests(connection, [*lost, *forsaken])
        return lost


def _locked(connection: Connection, which: Any) -> list[str]:
    """Return the runs of a kind, which no other server can change before the transaction ends."""
    found = select(runs.c.run_id).where(which).with_for_update(of=runs)
    return list(connection.execute(found).scalars())


def _is_lost() -> Any:
    return (runs.c.status == RunStatus.RUNNING) & _is_unknown(runs.c.owner)


def _is_forsaken() -> Any:
    return (runs.c.status == RunStatus.QUEUED) & _is_unknown(runs.c.held_by)


def _is_unknown(server_id: Any) -> Any:
    # NULL is not in an empty set.
    return server_id.is_not(None) & server_id.not_in(select(servers.c.server_id))
