"""Whether the client of a request is there, where the WSGI server can tell."""

from __future__ import annotations

from collections.abc import Callable

from flask import Request

HAS_FINISHED = "kedro_flask_server.client_has_finished"
"""The key in the WSGI environment of what tells whether a client sends no more."""

_IS_GONE = "waitress.client_disconnected"


def is_gone(request: Request) -> Callable[[], bool]:
    """Return what tells whether the client of a request is gone.

    One that has sent all and waits, its own side closed, is not.
    """
    found: Callable[[], bool] = request.environ.get(_IS_GONE, _no)
    return found


def has_finished(request: Request) -> Callable[[], bool]:
    """Return what tells whether the client of a request sends no more.

    It waits for its answer, or is gone, which shows when something is sent.
    """
    found: Callable[[], bool] = request.environ.get(HAS_FINISHED, _no)
    return found


def _no() -> bool:
    return False
