"""Exceptions of a project's code as data: bounded, printable and without credentials."""

from __future__ import annotations

import traceback
from typing import Any

from kedro.io.core import _redact_url_credentials
from kedro.runner import Task

from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.project.exchange.problems import InvalidInput
from kedro_flask_server.redaction import SECRETS, redact_urls
from kedro_flask_server.text import MAX_TRACEBACK_CHARS, bounded, bounded_end, printable

# Of an exception's classes.
_MAX_BASES = 20

PLAIN = {"markup": False}
"""The `extra` of a log record with others' text, which is no markup: rich.logging.RichHandler would
fail on a "[/]" in it."""


def safe(text: str) -> str:
    """Return text that may be logged and sent.

    Args:
        text: Any text.

    Returns:
        The text, bounded, printable, without the secrets that this process knows, and without
        the user info, the query and most fragments of URLs (`redact_urls`).
    """
    # Secrets first: one that is cut is not known any more.
    return printable(redact_urls(bounded(SECRETS.redact(text))))


def safe_name(name: str) -> str:
    """Return a name of the project for a field that holds names: it is not redacted.

    Args:
        name: Of a node or a dataset.

    Returns:
        The name, bounded and printable.
    """
    return printable(bounded(name))


def _safe_message(text: str) -> str:
    """Return an exception's message as Kedro's own server has it, without further secrets.

    Kedro replaces the user info, query and fragment of every URL, and takes a text without a
    space for one (``kedro.io.core``).
    """
    # When it is bounded: the time that Kedro's search takes grows with the square.
    redacted = bounded(SECRETS.redact(text))
    may_hold_url = "://" in redacted or " " not in redacted
    return printable(str(_redact_url_credentials(redacted)) if may_hold_url else redacted)


def describe(error: BaseException) -> ErrorDetail:
    """Return what a client is sent about an exception.

    Args:
        error: Any exception, one whose ``str()`` fails included.

    Returns:
        Its type's ``__qualname__`` and its message.
    """
    return ErrorDetail(type=safe(type(error).__qualname__), message=_safe_message(_message(error)))


def describe_run(error: BaseException) -> ErrorDetail:
    """Return all that is stored of the exception that a run failed with.

    Args:
        error: The exception.

    Returns:
        What `describe` says, the node that it came from where that is known, and the end of the
        traceback.
    """
    short = describe(error)
    return ErrorDetail(
        type=short.type,
        message=short.message,
        node=_node_of(error),
        traceback=bounded_end(trace(error), MAX_TRACEBACK_CHARS),
        problems=_problems_of(error),
    )


def _problems_of(error: BaseException) -> list[dict[str, Any]] | None:
    if not isinstance(error, InvalidInput):
        return None
    return [
        {
            **each,
            "msg": safe(each["msg"]),
            "loc": [safe_name(step) if isinstance(step, str) else step for step in each["loc"]],
        }
        for each in error.problems
    ]


def bases_of(error: BaseException) -> tuple[str, ...]:
    """Return the names of the classes above that of an exception, the nearest first."""
    above = type(error).__mro__[1:-1][:_MAX_BASES]  # without object
    return tuple(safe_name(each.__qualname__) for each in above)


def _node_of(error: BaseException) -> str | None:
    """Return the name of the node that an exception came through.

    It is found in the traceback: Kedro's hooks are called for what a node's function raises, and
    not for what its datasets do. From ``ParallelRunner``'s processes no frames come.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        task = frame.f_locals.get("self")
        if isinstance(task, Task):
            return safe_name(str(task.node.name))
    return None


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
