"""Who callers are, with a real database of keys."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from kedro_flask_server.access.api_keys import KeyFile, create_secret, dump_entry, hash_secret
from kedro_flask_server.access.control import AccessControl
from kedro_flask_server.errors import (
    ApiKeyExistsError,
    ServerSettingsError,
    UnauthorizedError,
    UnknownApiKeyError,
)
from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.caller import ApiKey, Scope
from kedro_flask_server.store import Database, locate
from kedro_flask_server.store.api_keys import AccessStore

NOW = datetime.now(timezone.utc)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(locate(None, tmp_path / "state"))
    yield made
    made.close()


@pytest.fixture
def store(database: Database) -> AccessStore:
    made = AccessStore(database, project="probe", env="local")
    made.open()
    return made


def record(what: str) -> AuditRecord:
    return AuditRecord(time=NOW, who="tests", what=what, subject="ci")


def add(store: AccessStore, name: str = "ci", expires_at: datetime | None = None) -> bytes:
    """Store a key, and return its secret."""
    secret = create_secret().encode()
    key = ApiKey(
        name=name,
        sha256=hash_secret(secret),
        scopes=frozenset({Scope.RUN}),
        created_at=NOW,
        expires_at=expires_at,
    )
    store.add(key, record("key.created"))
    return secret


def test_caller_is_whose_key_it_is(store: AccessStore) -> None:
    secret = add(store)
    access = AccessControl(store)
    assert access.caller_with(secret).name == "ci"
    for wrong in (secret[:-1], secret + b"x", secret.upper(), b"", b"kfs_", b"\xff"):
        with pytest.raises(UnauthorizedError):
            access.caller_with(wrong)


def test_key_counts_until_it_expires_or_is_revoked(store: AccessStore) -> None:
    expired = add(store, "past", NOW - timedelta(seconds=1))
    secret = add(store)
    store.revoke("ci", record("key.revoked"))
    access = AccessControl(store)
    for each in (expired, secret):
        with pytest.raises(UnauthorizedError):
            access.caller_with(each)
    with pytest.raises(UnknownApiKeyError):
        store.revoke("ci", record("key.revoked"))
    # A key that counts no more gives way to another one of its name, and one that does, does not.
    assert AccessControl(store).caller_with(add(store)).name == "ci"
    with pytest.raises(ApiKeyExistsError):
        add(store)


def test_keys_of_another_project_or_environment_open_nothing(
    store: AccessStore, database: Database
) -> None:
    secret = add(store)
    for project, env in (("other", "local"), ("probe", "prod")):
        access = AccessControl(AccessStore(database, project=project, env=env))
        with pytest.raises(UnauthorizedError):
            access.caller_with(secret)


@pytest.mark.parametrize(
    ("has_key", "options", "is_loopback", "opens"),
    [
        (False, {}, True, True),
        (False, {"is_reached_through_proxy": True}, True, False),
        (False, {}, False, False),
        (False, {"has_other_scheme": True}, True, False),
        (True, {}, True, False),
        (True, {"allow_anonymous": True}, True, True),
        (False, {"allow_anonymous": True}, False, True),
    ],
)
def test_anonymous_callers_are_let_in_on_loopback_without_keys_or_on_purpose(
    store: AccessStore,
    has_key: bool,
    options: dict[str, bool],
    is_loopback: bool,
    opens: bool,
) -> None:
    if has_key:
        add(store)
    access = AccessControl(store, **options)
    if opens or has_key or "has_other_scheme" in options:
        access.listen(is_loopback=is_loopback)
    else:
        with pytest.raises(ServerSettingsError, match="keys create"):
            access.listen(is_loopback=is_loopback)
    if opens:
        caller = access.anonymous()
        assert caller.may({Scope.ADMIN})
        assert caller.sees_messages is is_loopback
    else:
        with pytest.raises(UnauthorizedError):
            access.anonymous()


def test_uses_of_a_key_are_stored_together(store: AccessStore) -> None:
    secret = add(store)
    access = AccessControl(store)
    writes: list[str] = []

    def note(_: object, __: object, statement: str, *rest: object) -> None:
        if not statement.startswith(("SELECT", "BEGIN")):
            writes.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for _ in range(100):
            access.caller_with(secret)
            access.flush()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len([each for each in writes if each.startswith("UPDATE")]) == 1
    assert len(writes) == 1, writes
    [key] = store.keys()
    assert key.last_used_at is not None


def test_refusals_are_stored_up_to_a_hundred_and_the_others_counted(store: AccessStore) -> None:
    access = AccessControl(store)
    for number in range(250):
        access.record_refusal("", f"GET /{number}?token=canary", "203.0.113.9")
    access.flush()
    found = store.audit(1000)
    assert len(found) == 101
    assert found[0].subject == "150 more requests"
    assert {each.what for each in found} == {"request.refused"}
    assert not any("canary" in each.subject for each in found)
    store.purge(datetime.now(timezone.utc) + timedelta(seconds=1))
    assert store.audit(1000) == []


def test_keys_of_one_name_in_file_and_database_are_told(
    store: AccessStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(store)
    key = ApiKey(name="ci", sha256=hash_secret(b"kfs_file"), scopes=frozenset({Scope.READ}))
    path = tmp_path / "keys.yml"
    path.write_text(dump_entry(key))
    with caplog.at_level(logging.WARNING):
        access = AccessControl(store, key_file=KeyFile(path))
        assert access.caller_with(b"kfs_file").name == "ci"
    assert "keys of the same name" in caplog.text
