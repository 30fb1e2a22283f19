"""Who is let in, by what they send, and what is noted of those who are not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, jsonify
from flask.testing import FlaskClient
from flask.views import MethodView

from kedro_flask_server.access.api_keys import PREFIX
from kedro_flask_server.errors import StoreUnavailableError, UnauthorizedError
from kedro_flask_server.model.caller import Caller, Scope
from kedro_flask_server.web.authentication import (
    authorized_runs,
    current_caller,
    needs,
    register_authentication,
)
from kedro_flask_server.web.errors import register_error_handlers
from kedro_flask_server.web.middleware import PROXIED, UNKNOWN_HOST

SECRET = f"{PREFIX}secret"
READER = Caller(name="reader", scopes=frozenset({Scope.READ}))
RUNNER = Caller(name="runner", scopes=frozenset({Scope.RUN}))
ADMIN = Caller(name="root", scopes=frozenset({Scope.ADMIN}))
ANYBODY = Caller(name="", scopes=frozenset())


class FakeAccess:
    """Knows one key, and what becomes of those who send none."""

    def __init__(self) -> None:
        self.key_is_of = READER
        self.nobody: Caller | Exception = UnauthorizedError("An API key is needed.")
        self.asked_for_nobody: list[dict[str, bool]] = []
        self.refusals: list[tuple[str, str, str]] = []

    def caller_with(self, secret: bytes) -> Caller:
        if secret != SECRET.encode():
            raise UnauthorizedError("The API key is not known.")
        return self.key_is_of

    def limited(self, caller: Caller) -> Caller:
        return replace(caller, sees_messages=False)

    def anonymous(self, **asked: bool) -> Caller:
        self.asked_for_nobody.append(asked)
        if isinstance(self.nobody, Exception):
            raise self.nobody
        return self.nobody

    def record_refusal(self, who: str, request: str, address: str) -> None:
        self.refusals.append((who, request, address))


class FakeAuthenticator:
    """Says who a caller is as the test does."""

    def __init__(self, says: Callable[[], Any]) -> None:
        self.says = says

    def authenticate(self, request: object) -> Any:
        return self.says()


@pytest.fixture
def access() -> FakeAccess:
    return FakeAccess()


def who_is_here() -> Any:
    caller = current_caller()
    return jsonify(None if caller is None else [caller.name, caller.sees_messages])


def client_of(access: FakeAccess, authenticator: FakeAuthenticator | None = None) -> FlaskClient:
    app = Flask(__name__)
    register_error_handlers(app)
    register_authentication(
        app, access, public=["health"], authenticators=[*filter(None, [authenticator])]
    )

    app.add_url_rule("/health", "health", who_is_here)
    app.add_url_rule("/plain", "plain", who_is_here, methods=["GET", "POST"])

    @app.post("/run")
    @needs("run", Scope.READ)
    def run() -> Any:
        return who_is_here()

    @app.get("/known")
    @needs()
    def known() -> Any:
        return who_is_here()

    @app.get("/runs")
    @needs()
    def runs() -> Any:
        return authorized_runs(object()).caller.name  # type: ignore[arg-type]

    class Unmarked(MethodView):
        @staticmethod
        def post() -> Any:
            return who_is_here()

    class Views(Unmarked):
        pass

    app.add_url_rule("/views", view_func=needs("run")(Views).as_view("views"))
    app.add_url_rule("/unmarked", view_func=Unmarked.as_view("unmarked"))
    return app.test_client()


@pytest.fixture
def client(access: FakeAccess) -> FlaskClient:
    return client_of(access)


def bearer(secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def basic(password: str) -> dict[str, str]:
    given = base64.b64encode(f"anything:{password}".encode()).decode()
    return {"Authorization": f"Basic {given}"}


@pytest.mark.parametrize("headers", [bearer(), basic(SECRET)])
def test_key_says_who_a_caller_is(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get("/plain", headers=headers).json == ["reader", True]


@pytest.mark.parametrize("headers", [bearer(f"{SECRET}x"), basic(f"{PREFIX}x")])
def test_key_that_is_not_known_is_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = client.get("/plain", headers=headers)
    assert answer.status_code == 401
    assert len(answer.headers.getlist("WWW-Authenticate")) == 2


@pytest.mark.parametrize(
    "headers", [{}, bearer("of-a-proxy"), basic("of-a-proxy"), {"Authorization": "Digest a=b"}]
)
def test_who_sends_no_key_of_ours_is_nobody_in_particular(
    access: FakeAccess, client: FlaskClient, headers: dict[str, str]
) -> None:
    assert client.get("/plain", headers=headers).status_code == 401
    access.nobody = replace(ADMIN, name="")
    assert client.get("/plain", headers=headers).json == ["", True]
    assert access.asked_for_nobody[-1] == {"may_look": True, "is_proxied": False}


def test_request_that_came_through_a_proxy_is_known_as_such(
    access: FakeAccess, client: FlaskClient
) -> None:
    client.get("/plain", environ_overrides={PROXIED: True})
    assert access.asked_for_nobody == [{"may_look": True, "is_proxied": True}]


@pytest.mark.parametrize(
    ("caller", "request_", "status"),
    [
        (READER, "GET /plain", 200),
        (READER, "HEAD /plain", 200),
        (READER, "OPTIONS /plain", 200),
        (READER, "POST /plain", 403),
        (RUNNER, "GET /plain", 403),
        (ADMIN, "POST /plain", 200),
        (READER, "POST /run", 200),
        (RUNNER, "POST /run", 200),
        (ANYBODY, "POST /run", 403),
        (READER, "POST /views", 403),
        (RUNNER, "POST /views", 200),
        (RUNNER, "POST /unmarked", 403),
        (ADMIN, "POST /unmarked", 200),
        (READER, "GET /known", 200),
        (RUNNER, "GET /known", 200),
        (ANYBODY, "GET /known", 403),
        (READER, "GET /nothing", 404),
        (ANYBODY, "GET /nothing", 403),
    ],
)
def test_view_is_for_those_who_have_one_of_its_scopes(
    access: FakeAccess, client: FlaskClient, caller: Caller, request_: str, status: int
) -> None:
    access.key_is_of = caller
    method, path = request_.split()
    assert client.open(path, method=method, headers=bearer()).status_code == status


def test_refusal_says_which_scopes_are_needed(access: FakeAccess, client: FlaskClient) -> None:
    access.key_is_of = ANYBODY
    answer = client.post("/run", headers=bearer())
    assert answer.json == {"detail": "This needs a key with the scope read or run."}


def test_scope_that_there_is_not_is_refused_when_the_view_is_made() -> None:
    with pytest.raises(ValueError, match="write"):
        needs("write")


def test_nobody_is_told_whether_there_is_a_path(client: FlaskClient) -> None:
    assert client.get("/nothing").status_code == 401


def test_refusals_are_noted_with_who_asked_for_what_from_where(
    access: FakeAccess, client: FlaskClient
) -> None:
    client.get("/plain")
    client.post("/plain", headers=bearer())
    client.get("/plain", headers=bearer())
    client.get("/nothing", headers=bearer())
    assert access.refusals == [
        ("", "GET /plain", "127.0.0.1"),
        ("reader", "POST /plain", "127.0.0.1"),
    ]


def test_what_is_public_is_open_to_all_and_knows_who_says_so(
    access: FakeAccess, client: FlaskClient
) -> None:
    assert client.get("/health").json is None
    assert access.asked_for_nobody == [{"may_look": False, "is_proxied": False}]
    assert client.get("/health", headers=bearer("kfs_wrong")).json is None
    assert client.get("/health", headers=bearer()).json == ["reader", True]
    assert access.refusals == []


def test_what_is_public_is_open_though_the_keys_cannot_be_read(
    access: FakeAccess, client: FlaskClient
) -> None:
    access.nobody = StoreUnavailableError("the keys cannot be read now")
    assert client.get("/health").status_code == 200
    assert client.get("/plain").status_code == 503


def test_key_counts_for_nothing_under_a_host_that_is_not_ours(client: FlaskClient) -> None:
    answer = client.get("/health", headers=bearer(), environ_overrides={UNKNOWN_HOST: True})
    assert answer.json is None


def test_no_answer_becomes_a_page_by_a_guess(client: FlaskClient) -> None:
    for headers in ({}, bearer()):
        answer = client.get("/plain", headers=headers)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_runs_are_those_of_the_caller(client: FlaskClient) -> None:
    assert client.get("/runs", headers=bearer()).text == "reader"


def test_there_are_no_runs_for_nobody() -> None:
    with Flask(__name__).test_request_context(), pytest.raises(UnauthorizedError):
        authorized_runs(object())  # type: ignore[arg-type]


def test_authenticator_comes_before_keys_and_its_callers_see_what_the_settings_allow(
    access: FakeAccess,
) -> None:
    client = client_of(access, FakeAuthenticator(lambda: replace(READER, name="sso")))
    assert client.get("/plain", headers=bearer()).json == ["sso", False]


def test_authenticator_that_does_not_know_leaves_it_to_keys(access: FakeAccess) -> None:
    client = client_of(access, FakeAuthenticator(lambda: None))
    assert client.get("/plain", headers=bearer()).json == ["reader", True]


@pytest.mark.parametrize(
    "caller",
    [
        "alice",
        replace(READER, name=""),
        replace(READER, name="x" * 201),
        replace(READER, name="a\nb"),
        replace(READER, name=7),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_caller_with_a_name_is_let_in_nowhere(
    access: FakeAccess, caplog: pytest.LogCaptureFixture, caller: Any
) -> None:
    client = client_of(access, FakeAuthenticator(lambda: caller))
    assert client.get("/plain", headers=bearer()).status_code == 401
    assert "no caller with a name" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "is_logged"),
    [
        (UnauthorizedError("The token is over."), 401, False),
        (StoreUnavailableError("away"), 503, False),
        (ZeroDivisionError(), 401, True),
        (SystemExit(1), 401, True),
    ],
)
def test_authenticator_that_fails_lets_nobody_in(
    access: FakeAccess,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    status: int,
    is_logged: bool,
) -> None:
    def fail() -> None:
        raise error

    client = client_of(access, FakeAuthenticator(fail))
    assert client.get("/plain", headers=bearer()).status_code == status
    assert ("The authenticator failed" in caplog.text) is is_logged
