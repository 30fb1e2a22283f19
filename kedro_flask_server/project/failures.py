"""What a project's code raises, as data: bounded, printable and without credentials."""

from __future__ import annotations

import traceback

from kedro.io.core import _redact_url_credentials

from kedro_flask_server.runs.model import ErrorDetail
from kedro_flask_server.text import bounded, printable


def safe(text: str) -> str:
    """Return text that may be logged and sent.

    Args:
        text: Any text.

    Returns:
        The text, bounded, printable, and with the user info, query and fragment of every URL
        in it replaced, as Kedro does (``kedro.io.core``).
    """
    # Bounded first: the time that Kedro's search for URLs takes grows with the square.
    return printable(str(_redact_url_credentials(bounded(text))))


def describe(error: BaseException) -> ErrorDetail:
    """Return what a client is told about an exception.

    Args:
        error: Any exception, one whose ``str()`` fails included.

    Returns:
        Its type's ``__qualname__`` and its message.
    """
    return ErrorDetail(type=safe(type(error).__qualname__), message=safe(_message(error)))


def trace(error: BaseException) -> str:
    """Return an exception's traceback for the log.

    Args:
        error: Any exception.

    Returns:
        The text that Python would print, each part of it safe to log.
    """
    try:
        parts = traceback.format_exception(error)
    except BaseException as failure:  # as in _message
        parts = [f"(no traceback: writing it raised {type(failure).__qualname__})"]
    return "".join(safe(part) for part in parts)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:  # an exception class of the project's own can raise anything
        return f"(no message: str() of the exception raised {type(failure).__qualname__})"
