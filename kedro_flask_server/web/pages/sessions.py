"""Signing in and out, and the tokens of forms."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, g, redirect, request
from flask.typing import ResponseReturnValue

from kedro_flask_server.access.page_sessions import LONGEST_S, PageSession
from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import ForbiddenError, ServerError, UnauthorizedError
from kedro_flask_server.web.authentication import current_caller, needs
from kedro_flask_server.web.data_forms import takes_data
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.authenticator import PAGES_BLUEPRINT, ROOT, is_page
from kedro_flask_server.web.pages.rendering import render
from kedro_flask_server.web.routing import path_to

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_MAX_KEY_CHARS = 200
_MAX_FIELDS = 20_000


def add_sessions(app: Flask, pages: Blueprint, server: KedroServer) -> None:
    """Add the form to sign in, and have each form of a page checked."""
    sessions = server.sessions

    def read_session() -> PageSession:
        found: PageSession | None = g.get("kedro_server_page_session")
        if found is None:
            found = sessions.load(request.cookies.get(sessions.cookie_name))
            g.kedro_server_is_new_session = found is None
            found = g.kedro_server_page_session = found or sessions.new()
        return found

    def token() -> str:
        return sessions.token(read_session())

    def remember(response: Response, session: PageSession) -> None:
        response.set_cookie(
            sessions.cookie_name,
            sessions.dump(session),
            max_age=LONGEST_S,
            path=f"{request.script_root}{ROOT}",
            secure=request.is_secure,
            httponly=True,
            samesite="Lax",
        )

    @app.before_request
    def check_token() -> None:
        if request.method in _SAFE_METHODS or not is_page(request.path):
            return
        _set_limits(server.config)
        given = request.form.get("token", "")
        if not sessions.is_token(read_session(), given):
            raise ForbiddenError(
                "This form is not of this server, or its session is over: open the page again."
            )

    @app.after_request
    def keep_session(response: Response) -> Response:
        if g.get("kedro_server_is_new_session") and is_page(request.path):
            remember(response, read_session())
        return response

    @pages.app_context_processor
    def add_token() -> dict[str, Any]:
        return {"page_token": token}

    @pages.route(f"{ROOT}/sign-in", methods=["GET", "POST"])
    def sign_in() -> ResponseReturnValue:
        back = local_path(request.values.get("next", ""))
        if request.method != "POST":
            if current_caller() is not None:
                return redirect(f"{request.script_root}{back}", 303)
            return render("sign_in", back=back)
        try:
            session = sessions.new(request.form.get("key", "").strip()[:_MAX_KEY_CHARS])
        except UnauthorizedError as error:
            return render("sign_in", status=401, back=back, fault=str(error))
        response = redirect(f"{request.script_root}{back}", 303)
        assert isinstance(response, Response)  # noqa: S101  Flask's own
        remember(response, session)
        return response

    @pages.post(f"{ROOT}/sign-out")
    @needs()
    def sign_out() -> ResponseReturnValue:
        response = redirect(path_to(f"{PAGES_BLUEPRINT}.sign_in"), 303)
        response.delete_cookie(sessions.cookie_name, path=f"{request.script_root}{ROOT}")
        return response


def _set_limits(config: ServerConfig) -> None:
    """Let a form have as much data as the API takes, and a field for each parameter."""
    if takes_data(request.path):
        request.max_content_length = config.max_data_bytes
    request.max_form_memory_size = config.max_body_bytes
    request.max_form_parts = _MAX_FIELDS


def lead_to_sign_in(error: ServerError) -> ResponseReturnValue:
    """Lead whoever is not known to the form, and from there back to this page."""
    if request.headers.get("HX-Request"):  # a part of a page: the page itself leads there
        return "", 401, {"HX-Refresh": "true"}
    here = request.full_path.rstrip("?") if request.method == "GET" else ROOT
    return redirect(path_to(f"{PAGES_BLUEPRINT}.sign_in", next=here), 303)


def local_path(path: str) -> str:
    """Return the path of a page of this server that was asked for, or that of the first one.

    A prefix of a proxy is not part of it.
    """
    is_local = is_page(path.partition("?")[0]) and path.isprintable() and "\\" not in path
    return path if is_local else ROOT
