"""Lets a request in by its headers, before its body is read."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response
from werkzeug.wrappers import Response as BaseResponse

from kedro_flask_server.web.middleware import WSGI, Environ

logger = logging.getLogger(__name__)

_LET_IN = 100

EarlyRefusal = Callable[[Environ], "BaseResponse | None"]


def create_early_refusal(
    app: Flask, admit: Callable[[], None], *, behind: Callable[[WSGI], WSGI]
) -> EarlyRefusal:
    """Return what answers a request whose caller is not let in, and None for all others.

    It asks what the application asks: the middleware, and the guard.

    Args:
        app: The application.
        admit: Raises what the application answers to callers that are not let in; it looks at the
            request that Flask has, and not at its body.
        behind: Puts before an application what stands before this one.
    """

    def ask(environ: Environ, start_response: Any) -> Iterable[bytes]:
        with app.request_context(environ):
            try:
                admit()
                response = Response(status=_LET_IN)
            except Exception as error:  # all that the application answers
                response = app.make_response(app.handle_user_exception(error))
                response = app.process_response(response)
        return response(environ, start_response)

    asked = behind(ask)

    def refuse(environ: Environ) -> BaseResponse | None:
        try:
            response = BaseResponse.from_app(asked, {**environ, "wsgi.input": io.BytesIO()})
        except Exception:  # callbacks of the project's own can raise anything
            logger.exception("A caller could not be looked at before the request had come in")
            return None
        return None if response.status_code == _LET_IN else response

    return refuse
