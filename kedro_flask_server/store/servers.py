"""The servers that execute runs, and what becomes of the runs of those that are gone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, true, tuple_, update

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import ErrorDetail, RunStatus
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import append_cancelled, append_event, ended
from kedro_flask_server.store.schema import now_ms, now_or, runs, servers

_LOST = ErrorDetail(
    type="RunLost",
    message="The server that executed the run died without a word; the run may have done a part "
    "of its work.",
)


class ServerUnknownError(Exception):
    """Raised when a server acts that the store does not know, or knows no more."""


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

    def register_again(
        self, server: ServerProcess, lease_s: float, in_hand: Collection[str]
    ) -> list[str]:
        """Make a server known to a store that has forgotten it: it was replaced, or restored.

        Args:
            server: The server.
            lease_s: As for `register`.
            in_hand: The runs that it executes, or that somebody waits for there. Others that the
                store takes to be its own, because it did when it was copied, are ended.

        Returns:
            The ids of the runs that are lost.
        """
        with self._database.writing() as connection:
            is_server = servers.c.server_id == server.server_id
            connection.execute(delete(servers).where(is_server))
            # Other servers, which it has forgotten as well, see to theirs.
            is_own = (runs.c.owner == server.server_id) | (runs.c.held_by == server.server_id)
            lost = self._settle(connection, is_own & runs.c.run_id.not_in(in_hand))
            row = {**asdict(server), "lease_ends_at": now_ms() + round(lease_s * 1000)}
            connection.execute(insert(servers).values(row))
            return lost

    def has_lost_lease(self, server_id: str, run_ids: Collection[str]) -> bool:
        """Return whether others have taken a server for dead.

        Args:
            server_id: The server, which the store does not know.
            run_ids: The runs that it executes: theirs would be lost by now.
        """
        statement = select(runs.c.run_id).where(
            runs.c.run_id.in_(run_ids), runs.c.owner == server_id, runs.c.status == RunStatus.LOST
        )
        with self._database.reading() as connection:
            return connection.execute(statement.limit(1)).first() is not None

    def reap(
        self, is_dead: Callable[[ServerProcess, bool], bool], *, by: str | None = None
    ) -> list[str]:
        """Forget the servers that are dead, and record what became of their runs.

        Args:
            is_dead: Says of a server, and of whether its lease is over, whether it is dead.
            by: The server that asks; its own runs would be lost where the store has forgotten it.

        Returns:
            The ids of the runs that are lost.

        Raises:
            ServerUnknownError: If the store does not know the server that asks.
        """
        is_over = servers.c.lease_ends_at < now_ms()
        with self._database.reading() as connection:
            found = connection.execute(select(servers, is_over.label("is_over"))).all()
        if by is not None and by not in {row.server_id for row in found}:
            raise ServerUnknownError
        dead = []
        for row in found:
            values = row._asdict()
            over = bool(values.pop("is_over"))
            lease_ends_at = values.pop("lease_ends_at")
            if is_dead(ServerProcess(**values), over):
                # One that has renewed its lease since then is none.
                dead.append((row.server_id, lease_ends_at))
        if not dead and not self._has_left():
            return []
        with self._database.writing() as connection:
            if by is not None and not _is_known(connection, by):
                raise ServerUnknownError
            if dead:
                pairs = tuple_(servers.c.server_id, servers.c.lease_ends_at)
                connection.execute(delete(servers).where(pairs.in_(dead)))
            return self._settle(connection)

    def unregister(self, server_id: str) -> None:
        """Forget a server that ends, and record what became of what it leaves."""
        with self._database.writing() as connection:
            connection.execute(delete(servers).where(servers.c.server_id == server_id))
            self._settle(connection)

    def _has_left(self) -> bool:
        """Return whether there are runs of servers that are gone."""
        statement = select(func.count()).select_from(runs).where(_is_lost() | _is_unclaimed())
        with self._database.reading() as connection:
            return bool(connection.execute(statement).scalar())

    def _settle(self, connection: Connection, which: Any = None) -> list[str]:
        """End the runs of servers that are gone: what ran is lost, what they held cancelled.

        Args:
            connection: A transaction.
            which: Of these runs; by default of all.
        """
        which = true() if which is None else which
        lost = _locked(connection, _is_lost() & which)
        unclaimed = _locked(connection, _is_unclaimed() & which)
        now = now_or(func.coalesce(runs.c.started_at, 0))
        connection.execute(
            update(runs)
            .where(runs.c.run_id.in_(lost))
            .values(status=RunStatus.LOST, error=rows.dump_error(_LOST), finished_at=now)
        )
        what = ended(RunStatus.LOST, error=_LOST)
        append_event(connection, lost, EventType.RUN_FINISHED, runs.c.finished_at, what)
        connection.execute(
            update(runs)
            .where(runs.c.run_id.in_(unclaimed))
            .values(rows.cancelled(now, rows.UNCLAIMED))
        )
        append_cancelled(connection, unclaimed, rows.UNCLAIMED)
        rows.redact_requests(connection, [*lost, *unclaimed])
        return lost


def _is_known(connection: Connection, server_id: str) -> bool:
    statement = select(servers.c.server_id).where(servers.c.server_id == server_id)
    return connection.execute(statement).first() is not None


def _locked(connection: Connection, which: Any) -> list[str]:
    """Return the runs of a kind, which no other server can change before the transaction ends."""
    found = select(runs.c.run_id).where(which).with_for_update(of=runs)
    return list(connection.execute(found).scalars())


def _is_lost() -> Any:
    return (runs.c.status == RunStatus.RUNNING) & _is_unknown(runs.c.owner)


def _is_unclaimed() -> Any:
    return (runs.c.status == RunStatus.QUEUED) & _is_unknown(runs.c.held_by)


def _is_unknown(server_id: Any) -> Any:
    # NULL is not in an empty set.
    return server_id.is_not(None) & server_id.not_in(select(servers.c.server_id))
