"""Who comes in: every route needs a scope, but for those that are named as open to all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from flask import Flask, Response, g, request
from werkzeug.wrappers import Request

from kedro_flask_server.access.api_keys import PREFIX
from kedro_flask_server.access.authorized_runs import AuthorizedRuns
from kedro_flask_server.access.control import AccessControl
from kedro_flask_server.errors import (
    ForbiddenError,
    ServerError,
    TryAgainError,
    UnauthorizedError,
)
from kedro_flask_server.model.caller import Caller, Scope
from kedro_flask_server.runs.service import RunService
from kedro_flask_server.web.middleware import PROXIED, UNKNOWN_HOST

logger = logging.getLogger(__name__)

View = TypeVar("View", bound=Callable[..., Any])

_MAX_NAME_CHARS = 200
_REFUSED = (401, 403, 429)
_ATTRIBUTE = "_kedro_server_scopes"
_ANY = frozenset(Scope)
_BY_METHOD = {method: frozenset({Scope.READ}) for method in ("GET", "HEAD", "OPTIONS")}


class Authenticator(Protocol):
    """Another way for callers to say who they are, beside keys."""

    def authenticate(self, request: Request) -> Caller | None:
        """Return who sent a request; of one with a large body, it is asked before that comes, too.

        Args:
            request: The request; its body is not to be read.

        Returns:
            The caller; None where the request does not say so in this way.

        Raises:
            UnauthorizedError: If it does, and it is not true.
        """


def needs(*any_of: Scope | str) -> Callable[[View], View]:
    """Say which scopes a view is for; to be put below the route.

    A view that does not say so needs ``read`` for GET, HEAD and OPTIONS, and ``admin`` for
    all else.

    Args:
        any_of: A caller needs one of these; with none, only that they are known.
    """
    scopes = frozenset(map(Scope, any_of)) or _ANY

    def mark(view: View) -> View:
        setattr(view, _ATTRIBUTE, scopes)
        return view

    return mark


def register_authentication(
    app: Flask,
    access: AccessControl,
    *,
    public: Collection[str],
    authenticators: Sequence[Authenticator] = (),
) -> Callable[[], None]:
    """Have every request to an application say who sends it.

    Args:
        app: The application.
        access: Knows the callers.
        public: The endpoints that are open to all; a caller is looked for all the same.
        authenticators: Other ways for callers to say who they are; the first that knows one counts.

    Returns:
        What does so for the request that Flask has, by its headers alone.
    """

    @app.before_request
    def admit() -> None:
        if request.endpoint in public:
            g.kedro_server_caller = None
            with suppress(ServerError):
                caller = _identify(access, authenticators, may_look=False)
                if not request.environ.get(UNKNOWN_HOST):
                    g.kedro_server_caller = caller
            return
        g.kedro_server_caller = None
        g.kedro_server_caller = caller = _identify(access, authenticators)
        if not caller.may(_scopes_of_view(app)):
            scopes = " or ".join(sorted(map(str, _scopes_of_view(app))))
            raise ForbiddenError(f"This needs a key with the scope {scopes}.")

    @app.after_request
    def record_refusal(response: Response) -> Response:
        if response.status_code in _REFUSED:
            caller = current_caller()
            what = f"{request.method} {request.path}"
            access.record_refusal(caller.name if caller else "", what, request.remote_addr or "")
        return response

    @app.after_request
    def forbid_guessing(response: Response) -> Response:
        # A log is the project's text, which must not become a page.
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return admit


def current_caller() -> Caller | None:
    """Return the caller of the current request; None where none is needed."""
    caller: Caller | None = g.get("kedro_server_caller")
    return caller


def authorized_runs(runs: RunService) -> AuthorizedRuns:
    """Return the runs, as far as they are for who sent the request that is being answered.

    Raises:
        UnauthorizedError: If none is needed.
    """
    caller = current_caller()
    if caller is None:
        raise UnauthorizedError("An API key is needed: Authorization: Bearer <key>.")
    return AuthorizedRuns(runs, caller, address=request.remote_addr or "")


def _identify(
    access: AccessControl, authenticators: Sequence[Authenticator], *, may_look: bool = True
) -> Caller:
    for authenticator in authenticators:
        caller = _ask(authenticator)
        if caller is not None:
            return access.limited(caller)
    authorization = request.authorization
    secret = None
    if authorization is not None and authorization.type == "bearer":
        secret = authorization.token
    elif authorization is not None and authorization.type == "basic":
        secret = authorization.password
    if secret is not None and secret.startswith(PREFIX):
        return access.caller_with(secret.encode("utf-8", "surrogatepass"))
    # What else is sent may be for a proxy in front.
    is_proxied = bool(request.environ.get(PROXIED))
    return access.anonymous(may_look=may_look, is_proxied=is_proxied)


def _ask(authenticator: Authenticator) -> Caller | None:
    try:
        caller = authenticator.authenticate(request)
        if caller is None or _is_whole(caller):
            return caller
        logger.error("The authenticator returned what is no caller with a name: %r", caller)
    except (UnauthorizedError, TryAgainError):
        raise
    except (Exception, SystemExit):  # it is the project's: it can raise anything
        logger.exception("The authenticator failed")
    raise UnauthorizedError("Who sends this request could not be found out.")


def _is_whole(caller: Any) -> bool:
    if not isinstance(caller, Caller) or not isinstance(caller.name, str):
        return False
    return 0 < len(caller.name) <= _MAX_NAME_CHARS and caller.name.isprintable()


def _scopes_of_view(app: Flask) -> frozenset[Scope]:
    if request.endpoint is None:  # there is nothing there, which a caller is told who is known
        return _ANY
    view: Any = app.view_functions.get(request.endpoint)
    view_class = getattr(view, "view_class", None)
    marked = getattr(view, _ATTRIBUTE, None) or getattr(view_class, _ATTRIBUTE, None)
    return marked or _BY_METHOD.get(request.method, frozenset({Scope.ADMIN}))
