"""What callers are told of an error."""

from __future__ import annotations

import pytest
from flask import Flask, g

from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.model.caller import ALL_SCOPES, Caller
from kedro_flask_server.web.errors import register_error_handlers


@pytest.mark.parametrize("error", [StoreUnavailableError, ServerSettingsError])
@pytest.mark.parametrize("sees_messages", [True, False])
def test_database_s_error_is_for_callers_who_see_messages(
    error: type[Exception], sees_messages: bool
) -> None:
    app = Flask(__name__)
    register_error_handlers(app)

    @app.get("/")
    def fail() -> str:
        g.kedro_server_caller = Caller(name="a", scopes=ALL_SCOPES, sees_messages=sees_messages)
        raise error("canary of the database")

    answer = app.test_client().get("/")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert ("canary" in answer.text) is sees_messages
