"""The blueprint of all pages, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, redirect, request, send_from_directory
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from kedro_flask_server import __version__
from kedro_flask_server.errors import ServerError, UnauthorizedError
from kedro_flask_server.model.caller import Scope
from kedro_flask_server.web.authentication import authorized_runs, current_caller, needs
from kedro_flask_server.web.errors import answer_error, detail_of
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.pages.access import add_access
from kedro_flask_server.web.pages.actions import add_actions
from kedro_flask_server.web.pages.authenticator import PAGES_BLUEPRINT, ROOT, is_page
from kedro_flask_server.web.pages.datasets import add_datasets
from kedro_flask_server.web.pages.formats import FILTERS
from kedro_flask_server.web.pages.menu import MENU, MenuEntry
from kedro_flask_server.web.pages.now import add_now
from kedro_flask_server.web.pages.pipelines import add_pipelines
from kedro_flask_server.web.pages.rendering import render
from kedro_flask_server.web.pages.run import add_run
from kedro_flask_server.web.pages.run_form import add_run_form
from kedro_flask_server.web.pages.runs import add_runs
from kedro_flask_server.web.pages.sessions import add_sessions, lead_to_sign_in
from kedro_flask_server.web.routing import path_to

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""What a page may load and who may show it in a frame (https://www.w3.org/TR/CSP3/)."""

_FILES = Path(__file__).parent.parent / "static"
_FILES_FOR_S = 365 * 24 * 3600

_OWN_MENU = (
    MenuEntry("Now", "now"),
    MenuEntry("Runs", "runs"),
    MenuEntry("Pipelines", "pipelines"),
    MenuEntry("Datasets", "datasets"),
    MenuEntry("Access", "access", is_for_admin=True),
)

_PARTS: tuple[Callable[[Blueprint, KedroServer], None], ...] = (
    add_now,
    add_runs,
    add_run,
    add_actions,
    add_pipelines,
    add_run_form,
    add_datasets,
    add_access,
)


def register_pages(app: Flask, server: KedroServer) -> None:
    """Add the pages to an application."""
    folder = str(Path(__file__).parent.parent / "templates")
    pages = Blueprint(PAGES_BLUEPRINT, __name__, template_folder=folder)
    for name, filter_ in FILTERS.items():
        pages.add_app_template_filter(filter_, name)
    add_sessions(app, pages, server)
    for add in _PARTS:
        add(pages, server)
    _add_common(pages, server)
    app.after_request(_protect)
    app.register_blueprint(pages)


def _add_common(pages: Blueprint, server: KedroServer) -> None:
    @pages.get("/")
    @needs()
    def index() -> ResponseReturnValue:
        if "text/html" not in request.headers.get("Accept", ""):
            raise NotFound
        return redirect(path_to(".now"), 303)

    @pages.get(f"{ROOT}/files/<path:name>")
    def file(name: str) -> ResponseReturnValue:
        return send_from_directory(_FILES, name, max_age=_FILES_FOR_S)

    @pages.get(f"{ROOT}/<path:path>")
    @needs()
    def nothing(path: str) -> ResponseReturnValue:
        raise NotFound

    # Flask looks for handlers of a status first, of which the application has some.
    @pages.errorhandler(NotFound)
    @pages.errorhandler(RequestEntityTooLarge)
    @pages.errorhandler(Exception)
    def answer_on_page(error: Exception) -> ResponseReturnValue:
        return _answer_on_page(error)

    @pages.app_errorhandler(MethodNotAllowed)
    def answer_other_method(error: MethodNotAllowed) -> ResponseReturnValue:
        is_known = current_caller() is not None
        return _answer_on_page(error) if is_page(request.path) and is_known else answer_error(error)

    def layout_of() -> dict[str, Any]:
        """Return it once for a request: several templates of a page ask."""
        if "kedro_server_layout" not in g:
            g.kedro_server_layout = _layout(server)
        found: dict[str, Any] = g.kedro_server_layout
        return found

    @pages.app_context_processor
    def add_layout() -> dict[str, Any]:
        return {"layout_of": layout_of, "file_url": _file_url, "api_path": path_to}


def _answer_on_page(error: Exception) -> ResponseReturnValue:
    """Return the answer to a browser, that an error gets as JSON elsewhere."""
    is_html = request.endpoint != f"{PAGES_BLUEPRINT}.index" or (
        "text/html" in request.headers.get("Accept", "")
    )
    if isinstance(error, HTTPException) and (error.code or 500) < 400:
        return error.get_response()
    if isinstance(error, UnauthorizedError) and is_html:
        return lead_to_sign_in(error)
    answer = answer_error(error)
    if not is_html or answer.status_code < 400:
        return answer
    detail = detail_of(answer)
    response = render("error", status=answer.status_code, detail=detail)
    for name in ("Retry-After", "Allow"):
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    return response


def _layout(server: KedroServer) -> dict[str, Any]:
    """Return what every whole page shows beside its content."""
    caller = current_caller()
    shown: dict[str, Any] = {
        "project": server.project.name,
        "env": server.project.env,
        "version": __version__,
        "caller": caller,
        "menu": [],
        "paused": [],
        "is_admin": caller is not None and caller.may(()),
        "may_run": caller is not None and caller.may((Scope.RUN,)),
        "sees_own_alone": caller is not None and not caller.may((Scope.READ,)),
        "can_sign_out": bool(caller and caller.name),
        "here": request.full_path.rstrip("?"),
    }
    if caller is None:
        return shown
    added = current_app.extensions.get(MENU, [])
    shown["menu"] = [each.shown(caller) for each in (*_OWN_MENU, *added) if each.is_for(caller)]
    try:
        shown["paused"] = authorized_runs(server.runs).paused()
    except ServerError:  # the page itself says so, if it needs the store
        shown["paused"] = []
    return shown


def _file_url(name: str) -> str:
    return path_to(f"{PAGES_BLUEPRINT}.file", name=name, v=__version__)


def _protect(response: Response) -> Response:
    """Add the headers of pages; a file that is the same for ever may be kept."""
    if is_page(request.path):
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers["Referrer-Policy"] = "same-origin"
        is_file = request.endpoint == f"{PAGES_BLUEPRINT}.file"
        if not is_file or response.status_code not in (200, 206, 304):
            response.headers["Cache-Control"] = "no-store"
    return response
