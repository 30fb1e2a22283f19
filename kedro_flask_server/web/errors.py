"""Which answer an exception gets: one table, and JSON for all of them."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, current_app, jsonify, redirect, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.urls import iri_to_uri
from werkzeug.wrappers import Response as BaseResponse

from kedro_flask_server.errors import (
    ForbiddenError,
    KeyInUseError,
    KeyReusedError,
    QuotaError,
    RunEndedError,
    ServerError,
    ServerSettingsError,
    StoreUnavailableError,
    TryAgainError,
    UnauthorizedError,
    UnknownRunError,
)
from kedro_flask_server.web.authentication import current_caller

logger = logging.getLogger(__name__)


CHALLENGES = ('Bearer realm="Kedro Server"', 'Basic realm="Kedro Server", charset="UTF-8"')
"""How callers may say who they are (RFC 6750, RFC 7617)."""

IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header that tells a request that is sent again from another one."""


class InvalidRequestError(ServerError):
    """Raised when a request is not what it should be.

    Args:
        problems: What is wrong, each a mapping with ``type``, ``loc``, ``msg`` and ``input``.
    """

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} things are wrong with the request")
        self.problems = problems


class UnreadableBodyError(ServerError):
    """Raised when a body cannot be parsed: undecodable, too deep, or with endless digits."""


def register_error_handlers(app: Flask) -> None:
    """Have every error of an application answered as JSON, ``{"detail": ...}``.

    Args:
        app: The application.
    """
    app.register_error_handler(InvalidRequestError, lambda error: _answer(422, error.problems))
    app.register_error_handler(
        UnreadableBodyError, lambda _: _answer(400, "There was an error parsing the body")
    )
    app.register_error_handler(UnauthorizedError, _answer_unauthorized)
    app.register_error_handler(ForbiddenError, lambda error: _answer(403, str(error)))
    app.register_error_handler(QuotaError, lambda error: _answer_later(error, 429))
    app.register_error_handler(UnknownRunError, lambda error: _answer(404, str(error)))
    app.register_error_handler(RunEndedError, lambda error: _answer(409, str(error)))
    app.register_error_handler(KeyReusedError, _answer_key_reused)
    app.register_error_handler(KeyInUseError, lambda error: _answer_later(error, 409))
    app.register_error_handler(TryAgainError, _answer_later)
    app.register_error_handler(StoreUnavailableError, _answer_store_unavailable)
    app.register_error_handler(
        ServerSettingsError,
        lambda error: _answer_store_unavailable(StoreUnavailableError(str(error))),
    )
    app.register_error_handler(NotFound, _answer_not_found)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def _answer(status: int, detail: Any) -> Response:
    response = jsonify(detail=detail)
    response.status_code = status
    return response


def _answer_unauthorized(error: UnauthorizedError) -> Response:
    response = _answer(401, str(error))
    for challenge in CHALLENGES:
        response.headers.add("WWW-Authenticate", challenge)
    return response


def _answer_key_reused(error: KeyReusedError) -> Response:
    where = ["header", IDEMPOTENCY_KEY]
    return _answer(422, [{"type": "value_error", "loc": where, "msg": str(error), "input": None}])


def _answer_later(error: TryAgainError, status: int = 503) -> Response:
    response = _answer(status, str(error))
    response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _answer_store_unavailable(error: StoreUnavailableError) -> Response:
    caller = current_caller()
    is_told = caller is None or caller.sees_messages
    return _answer_later(error if is_told else StoreUnavailableError("see the server's log"))


def _answer_http(error: HTTPException) -> BaseResponse:
    """Answer what Flask, or a view's ``abort()``, says in HTTP's own words."""
    response = error.get_response()
    if response.status_code < 400:
        return response
    is_own = error.description not in (None, type(error).description)
    body = _answer(response.status_code, error.description if is_own else error.name)
    response.data = body.data
    response.content_type = body.content_type
    return response


def _answer_not_found(error: NotFound) -> BaseResponse:
    """Send a path with a trailing slash to the path without it, where there is one."""
    path = request.path.rstrip("/")
    if path and path != request.path and _is_route(path):
        query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        location = "/" + f"{request.root_path}{path}".lstrip("/")
        return redirect(iri_to_uri(location) + query, 307)
    return _answer_http(error)


def _is_route(path: str) -> bool:
    adapter = current_app.create_url_adapter(request)
    if adapter is None:
        return False
    try:
        adapter.match(path)
    except MethodNotAllowed:
        return True
    except HTTPException:
        return False
    return True


def _answer_unexpected(error: Exception) -> Response:
    logger.error("Request to %s failed", request.endpoint, exc_info=error)
    return _answer(500, "Internal Server Error")
