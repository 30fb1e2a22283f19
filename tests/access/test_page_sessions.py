"""Sessions of those who look at pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedro_flask_server.access.api_keys import create_secret, hash_secret
from kedro_flask_server.access.control import AccessControl
from kedro_flask_server.access.page_sessions import PageSession, PageSessions
from kedro_flask_server.errors import UnauthorizedError
from kedro_flask_server.model.audit import AuditRecord
from kedro_flask_server.model.caller import ApiKey, Scope
from kedro_flask_server.store import Database, locate
from kedro_flask_server.store.api_keys import AccessStore

SECRET = create_secret()
RECORD = AuditRecord.of("me", "key.created", "me")


@pytest.fixture
def store(tmp_path: Path) -> AccessStore:
    store = AccessStore(Database(locate(None, tmp_path)), project="p", env="local")
    store.open()
    key = ApiKey(
        name="me",
        sha256=hash_secret(SECRET.encode()),
        scopes=frozenset({Scope.RUN}),
        created_at=RECORD.time,
    )
    store.add(key, RECORD)
    return store


def sessions_of(store: AccessStore, project: str = "p") -> PageSessions:
    return PageSessions(AccessControl(store), project=project, env="local")


def test_cookie_has_the_id_of_the_key_alone(store: AccessStore) -> None:
    sessions = sessions_of(store)
    session = sessions.new(SECRET)
    cookie = sessions.dump(session)
    assert sessions.load(cookie) == session
    assert SECRET not in cookie
    assert hash_secret(SECRET.encode()) not in cookie
    caller = sessions.caller(session)
    assert caller is not None
    assert (caller.name, caller.scopes) == ("me", frozenset({Scope.RUN}))


def test_session_counts_on_every_server_of_the_store(store: AccessStore) -> None:
    cookie = sessions_of(store).dump(PageSession(nonce="n"))
    assert sessions_of(store).load(cookie) == PageSession(nonce="n")


def test_cookie_that_was_changed_is_none(store: AccessStore) -> None:
    sessions = sessions_of(store)
    cookie = sessions.dump(sessions.new(SECRET))
    for changed in (f"x{cookie}", cookie[:-1], "", "a.b.c", "\u2028", None):
        assert sessions.load(changed) is None


def test_wrong_key_signs_nobody_in(store: AccessStore) -> None:
    sessions = sessions_of(store)
    for wrong in (create_secret(), "", "x", "\ud800"):
        with pytest.raises(UnauthorizedError):
            sessions.new(wrong)


def test_revoked_key_ends_its_session(store: AccessStore) -> None:
    sessions = sessions_of(store)
    session = sessions.new(SECRET)
    store.revoke("me", RECORD)
    # Others see it within a second; a server that has just started, at once.
    with pytest.raises(UnauthorizedError):
        sessions_of(store).caller(session)


def test_renewed_signing_key_ends_all_sessions(store: AccessStore) -> None:
    cookie = sessions_of(store).dump(PageSession(nonce="n"))
    store.renew_page_key(RECORD)
    assert sessions_of(store).load(cookie) is None
    assert store.audit(1)[0].what == RECORD.what


def test_token_of_a_form_is_of_its_session(store: AccessStore) -> None:
    sessions = sessions_of(store)
    one, other = sessions.new(), sessions.new()
    assert sessions.is_token(one, sessions.token(one))
    assert not sessions.is_token(one, sessions.token(other))
    assert not sessions.is_token(one, "")
    assert not sessions.is_token(one, "ü")


def test_servers_on_other_ports_have_cookies_of_their_own(store: AccessStore) -> None:
    names = {sessions_of(store, name).cookie_name for name in ("a", "b", "a b", "a-b", "ü")}
    assert len(names) == 5
    assert all(name.isascii() and " " not in name for name in names)
