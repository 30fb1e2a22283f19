"""API keys and the audit log, as rows."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from kedro_flask_server.errors import ApiKeyExistsError, UnknownApiKeyError
from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.caller import ApiKey, Scope
from kedro_flask_server.store.audit import AuditTrail
from kedro_flask_server.store.database import Database
from kedro_flask_server.store.rows import from_ms, to_ms
from kedro_flask_server.store.schema import api_keys, page_keys


class AccessStore:
    """The API keys of one project and environment, and their audit log.

    Every method raises `StoreUnavailableError` if the database cannot be reached or written.
    """

    def __init__(self, database: Database, *, project: str, env: str) -> None:
        """Store the keys of a project and environment in a database.

        Args:
            database: The database, which others may share.
            project: The project's name.
            env: The configuration environment.
        """
        self._database = database
        self._scope_values = {"project": project, "env": env}
        self._of_keys = (api_keys.c.project == project, api_keys.c.env == env)
        self._of_page_keys = (page_keys.c.project == project, page_keys.c.env == env)
        self._trail = AuditTrail(project=project, env=env)

    def open(self) -> None:
        """Create the tables, or migrate them.

        Raises:
            ServerSettingsError: If the database cannot be used at all.
        """
        self._database.open()

    def keys(self) -> list[ApiKey]:
        """Return all keys, including revoked and expired ones."""
        statement = select(api_keys).where(*self._of_keys).order_by(api_keys.c.name)
        with self._database.reading() as connection:
            return [_load_key(row) for row in connection.execute(statement)]

    def add(self, key: ApiKey, record: AuditRecord) -> None:
        """Store a key; replaces one of that name that is revoked or expired.

        Args:
            key: The key.
            record: The audit record of its creation.

        Raises:
            ApiKeyExistsError: If there is a valid key of that name.
        """
        is_of_name = (*self._of_keys, api_keys.c.name == key.name)
        try:
            with self._database.writing() as connection:
                row = connection.execute(select(api_keys).where(*is_of_name)).one_or_none()
                if row is not None and not _load_key(row).counts_at(record.time):
                    connection.execute(delete(api_keys).where(*is_of_name))
                connection.execute(insert(api_keys).values(**self._scope_values, **_dump_key(key)))
                self._trail.add(self._database, connection, record)
        except IntegrityError as error:
            raise ApiKeyExistsError(key.name) from error

    def revoke(self, name: str, record: AuditRecord) -> None:
        """Revoke a key.

        Args:
            name: Its name.
            record: The audit record, with the time of the revocation.

        Raises:
            UnknownApiKeyError: If there is no key of that name that is not revoked.
        """
        is_revocable = (*self._of_keys, api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
        statement = update(api_keys).where(*is_revocable).values(revoked_at=to_ms(record.time))
        with self._database.writing() as connection:
            if connection.execute(statement).rowcount == 0:
                raise UnknownApiKeyError(name)
            self._trail.add(self._database, connection, record)

    def page_key(self) -> str:
        """Return what the cookies of pages are signed with; the first call makes it."""
        statement = select(page_keys.c.secret).where(*self._of_page_keys)
        with self._database.reading() as connection:
            found = connection.execute(statement).scalar()
        if found is None:
            with suppress(IntegrityError), self._database.writing() as connection:
                new = insert(page_keys).values(**self._scope_values, secret=secrets.token_hex(32))
                connection.execute(new)
            with self._database.reading() as connection:
                found = connection.execute(statement).scalar_one()
        return str(found)

    def renew_page_key(self, record: AuditRecord) -> None:
        """Have the cookies of pages signed with another key, so that those before do not count.

        Args:
            record: The audit record.
        """
        with self._database.writing() as connection:
            connection.execute(delete(page_keys).where(*self._of_page_keys))
            new = insert(page_keys).values(**self._scope_values, secret=secrets.token_hex(32))
            connection.execute(new)
            self._trail.add(self._database, connection, record)

    def flush(
        self, records: Sequence[AuditRecord], used_at: Mapping[str, datetime] | None = None
    ) -> None:
        """Add to the audit log, and record when keys were last used.

        Args:
            records: The audit records.
            used_at: Key names to their times of use.
        """
        with self._database.writing() as connection:
            if records:
                self._trail.add(self._database, connection, *records)
            for name, moment in (used_at or {}).items():
                is_of_name = (*self._of_keys, api_keys.c.name == name)
                statement = update(api_keys).where(*is_of_name)
                connection.execute(statement.values(last_used_at=to_ms(moment)))

    def audit(self, limit: int) -> list[AuditRecord]:
        """Return the newest audit records, the newest first.

        Args:
            limit: The maximum number of records.
        """
        with self._database.reading() as connection:
            return self._trail.newest(connection, limit)

    def purge(self, before: datetime) -> None:
        """Delete audit records before a time."""
        with self._database.writing() as connection:
            self._trail.purge(connection, before)


def _dump_key(key: ApiKey) -> dict[str, Any]:
    times = {"created_at": key.created_at, "expires_at": key.expires_at}
    return {
        "name": key.name,
        "sha256": key.sha256,
        "scopes": json.dumps(sorted(str(scope) for scope in key.scopes)),
        "pipelines": None if key.pipelines is None else json.dumps(sorted(key.pipelines)),
        "max_active": key.max_active,
        "max_queued": key.max_queued,
        "max_priority": key.max_priority,
        **{name: None if moment is None else to_ms(moment) for name, moment in times.items()},
    }


def _load_key(row: Any) -> ApiKey:
    return ApiKey(
        name=row.name,
        sha256=row.sha256,
        scopes=frozenset(Scope(each) for each in json.loads(row.scopes)),
        pipelines=None if row.pipelines is None else frozenset(json.loads(row.pipelines)),
        max_active=row.max_active,
        max_queued=row.max_queued,
        max_priority=row.max_priority,
        created_at=from_ms(row.created_at),
        expires_at=from_ms(row.expires_at),
        revoked_at=from_ms(row.revoked_at),
        last_used_at=from_ms(row.last_used_at),
    )
