"""The servers that execute runs, and the runs of dead servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, true, tuple_, update

from kedro_flask_server.model.event import EventType
from kedro_flask_server.model.run import ErrorDetail, RunStatus
from kedro_flask_server.model.server_process import ServerProcess
from kedro_flask_server.store import rows
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.events import append_cancelled, append_event, ended
from kedro_flask_server.store.locks import LOCK_KEY, remove_stale_locks
from kedro_flask_server.store.rule_retries import retry_by_rule
from kedro_flask_server.store.schema import now_ms, now_or, runs, servers
from kedro_flask_server.store.schema_versions import NEWEST_REVISION
from kedro_flask_server.store.turns import release, unblock_stale

_LOST = ErrorDetail(
    type="RunLost",
    message="The server that executed the run died without a word; the run may have done a part "
    "of its work.",
)


class ServerUnknownError(Exception):
    """Raised when the store does not, or no longer, know the server that acts."""


class ServerStore:
    """The servers of a database, whatever project they serve."""

    def __init__(self, database: Database) -> None:
        """Store the servers of a database.

        Args:
            database: The database.
        """
        self._database = database

    def register(self, server: ServerProcess, lease_s: float) -> None:
        """Register a server with a lease.

        Args:
            server: The server.
            lease_s: The duration of the lease in seconds, by the database's clock.
        """
        with self._database.writing() as connection:
            connection.execute(insert(servers).values(_row(server, lease_s)))
            # Programs before this one, which may have used the store until now, leave them there.
            self._database.lock(connection, LOCK_KEY)
            remove_stale_locks(connection)
            unblock_stale(connection)

    def renew(self, server_id: str, lease_s: float) -> bool:
        """Extend a server's lease.

        Returns:
            Whether it is still registered; if not, others have reaped it.
        """
        ends_at = now_ms() + round(lease_s * 1000)
        statement = update(servers).values(lease_ends_at=ends_at)
        with self._database.writing() as connection:
            result = connection.execute(statement.where(servers.c.server_id == server_id))
            return result.rowcount == 1

    def register_again(
        self, server: ServerProcess, lease_s: float, in_hand: Collection[str]
    ) -> list[str]:
        """Register a server again in a store that was replaced or restored.

        Args:
            server: The server.
            lease_s: As for `register`.
            in_hand: The runs that it executes, or that a client waits for there. Its other runs,
                which were copied with the store, are ended.

        Returns:
            The ids of the runs that are lost.
        """
        with self._database.writing() as connection:
            is_server = servers.c.server_id == server.server_id
            connection.execute(delete(servers).where(is_server))
            # Other servers, which are unknown as well, handle their own.
            is_own = (runs.c.owner == server.server_id) | (runs.c.held_by == server.server_id)
            lost = self._settle(connection, is_own & runs.c.run_id.not_in(in_hand))
            connection.execute(insert(servers).values(_row(server, lease_s)))
            return lost

    def has_lost_lease(self, server_id: str, run_ids: Collection[str]) -> bool:
        """Return whether others have reaped a server.

        Args:
            server_id: The server, which the store does not know.
            run_ids: The runs that it executes, which would be lost.
        """
        statement = select(runs.c.run_id).where(
            runs.c.run_id.in_(run_ids), runs.c.owner == server_id, runs.c.status == RunStatus.LOST
        )
        with self._database.reading() as connection:
            return connection.execute(statement.limit(1)).first() is not None

    def reap(
        self, is_dead: Callable[[ServerProcess, bool], bool], *, by: str | None = None
    ) -> list[str]:
        """Remove dead servers, and record the end of their runs.

        Args:
            is_dead: Returns whether a server is dead, from whether its lease is over.
            by: The server that asks; if the store does not know it, its own runs would be lost.

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
            del values["newest_revision"]
            lease_ends_at = values.pop("lease_ends_at")
            if is_dead(ServerProcess(**values), over):
                # A server that renews its lease meanwhile is not dead.
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
        """Remove a server that ends, and record the end of its remaining runs."""
        with self._database.writing() as connection:
            connection.execute(delete(servers).where(servers.c.server_id == server_id))
            self._settle(connection)

    def have_no_locks(self) -> bool:
        """Return whether a server is registered whose program ignores locks."""
        statement = select(servers.c.server_id).where(servers.c.newest_revision.is_(None))
        with self._database.reading() as connection:
            return connection.execute(statement.limit(1)).first() is not None

    def _has_left(self) -> bool:
        """Return whether there are runs of removed servers."""
        statement = select(func.count()).select_from(runs).where(_is_lost() | _is_unclaimed())
        with self._database.reading() as connection:
            return bool(connection.execute(statement).scalar())

    def _settle(self, connection: Connection, which: Any = None) -> list[str]:
        """End the runs of removed servers: running ones are lost, held ones cancelled.

        Args:
            connection: A transaction.
            which: The runs to consider; all by default.
        """
        which = true() if which is None else which
        self._database.lock(connection, LOCK_KEY)
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
        self._retry(connection, lost)
        rows.redact_requests(connection, [*lost, *unclaimed])
        release(connection, [*lost, *unclaimed])
        return lost

    def _retry(self, connection: Connection, lost: Sequence[str]) -> None:
        """Store the retries of lost runs whose rules ask for that."""
        has_rule = (runs.c.run_id.in_(lost), runs.c.retry_rule.is_not(None))
        found = connection.execute(select(runs.c.run_id, runs.c.request).where(*has_rule)).all()
        for row in found:
            retry_by_rule(self._database, connection, row.run_id, row.request, {_LOST.type})


def _row(server: ServerProcess, lease_s: float) -> dict[str, Any]:
    return {
        **asdict(server),
        "lease_ends_at": now_ms() + round(lease_s * 1000),
        "newest_revision": NEWEST_REVISION,
    }


def _is_known(connection: Connection, server_id: str) -> bool:
    statement = select(servers.c.server_id).where(servers.c.server_id == server_id)
    return connection.execute(statement).first() is not None


def _locked(connection: Connection, which: Any) -> list[str]:
    """Return matching runs, locked against other servers until the transaction ends."""
    found = select(runs.c.run_id).where(which).with_for_update(of=runs)
    return list(connection.execute(found).scalars())


def _is_lost() -> Any:
    return (runs.c.status == RunStatus.RUNNING) & _is_unknown(runs.c.owner)


def _is_unclaimed() -> Any:
    return (runs.c.status == RunStatus.QUEUED) & _is_unknown(runs.c.held_by)


def _is_unknown(server_id: Any) -> Any:
    # NOT IN an empty set is true even for NULL.
    return server_id.is_not(None) & server_id.not_in(select(servers.c.server_id))
