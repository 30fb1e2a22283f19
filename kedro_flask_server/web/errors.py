"""Which answer an exception gets: one table, and JSON for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, current_app, jsonify, redirect, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.urls import iri_to_uri
from werkzeug.wrappers import Response as BaseResponse

from kedro_flask_server.errors import (
    DataGoneError,
    DatasetConflictError,
    ForbiddenError,
    KeyInUseError,
    KeyReusedError,
    LoadFailedError,
    NothingToLoadError,
    NotServedError,
    PipelineNotReadyError,
    QuotaError,
    RetryRefusedError,
    RunEndedError,
    RunNotEndedError,
    ServerError,
    ServerSettingsError,
    StorageFullError,
    StoreUnavailableError,
    TryAgainError,
    UnauthorizedError,
    UnknownOutputError,
    UnknownPipelineError,
    UnknownRunError,
)
from kedro_flask_server.model.labels import LabelError
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
    for kind, handler in _HANDLERS.items():
        app.register_error_handler(kind, handler)


def answer_error(error: Exception) -> BaseResponse:
    """Return the answer that an error gets as JSON."""
    handler = next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)
    return handler(error)


def detail_of(answer: BaseResponse) -> Any:
    """Return what is wrong, as the answer of an error says."""
    return (answer.get_json(silent=True) or {}).get("detail")


def _answer(status: int, detail: Any) -> Response:
    response = jsonify(detail=detail)
    response.status_code = status
    return response


def _answer_unauthorized(error: UnauthorizedError) -> Response:
    response = _answer(401, str(error))
    for challenge in CHALLENGES:
        response.headers.add("WWW-Authenticate", challenge)
    return response


def _answer_conflict(error: DatasetConflictError) -> Response:
    response = jsonify(detail=str(error), run_id=error.run_id, dataset=error.dataset)
    response.status_code = 409
    return response


def _answer_retry_refused(error: RetryRefusedError) -> Response:
    of_active = {} if error.run_id is None else {"run_id": error.run_id}
    response = jsonify(detail=error.refusals, **of_active)
    response.status_code = 409
    return response


def _answer_labels(error: LabelError) -> Response:
    message = f"Value error, {error}"
    return _answer(
        422, [{"type": "value_error", "loc": ["query", "label"], "msg": message, "input": None}]
    )


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


def _answer_not_ready(error: PipelineNotReadyError) -> Response:
    caller = current_caller()
    is_told = caller is None or caller.sees_messages or not error.is_of_project
    return _answer_later(
        error if is_told else PipelineNotReadyError(error.pipeline, "see the server's log.")
    )


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


_HANDLERS: Mapping[type[Exception], Callable[[Any], BaseResponse]] = {
    InvalidRequestError: lambda error: _answer(422, error.problems),
    UnreadableBodyError: lambda _: _answer(400, "There was an error parsing the body"),
    UnauthorizedError: _answer_unauthorized,
    ForbiddenError: lambda error: _answer(403, str(error)),
    QuotaError: lambda error: _answer_later(error, 429),
    UnknownRunError: lambda error: _answer(404, str(error)),
    UnknownPipelineError: lambda error: _answer(404, str(error)),
    DatasetConflictError: _answer_conflict,
    RetryRefusedError: _answer_retry_refused,
    UnknownOutputError: lambda error: _answer(404, str(error)),
    DataGoneError: lambda error: _answer(410, str(error)),
    StorageFullError: lambda error: _answer(507, str(error)),
    RunNotEndedError: lambda error: _answer(409, str(error)),
    NotServedError: lambda error: _answer(404, str(error)),
    NothingToLoadError: lambda error: _answer(409, str(error)),
    LoadFailedError: lambda error: _answer(409, str(error)),
    LabelError: _answer_labels,
    RunEndedError: lambda error: _answer(409, str(error)),
    KeyReusedError: _answer_key_reused,
    KeyInUseError: lambda error: _answer_later(error, 409),
    TryAgainError: _answer_later,
    PipelineNotReadyError: _answer_not_ready,
    StoreUnavailableError: _answer_store_unavailable,
    ServerSettingsError: lambda error: _answer_store_unavailable(StoreUnavailableError(str(error))),
    NotFound: _answer_not_found,
    HTTPException: _answer_http,
    Exception: _answer_unexpected,
}
