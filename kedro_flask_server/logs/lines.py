"""The format of log records: drawn on a terminal, elsewhere plain lines or JSON.

Kedro logs through rich, which wraps, aligns and colours each line for a terminal. That takes a
millisecond a line, also into a file, where it is useless. A record that is not drawn is one line,
whatever its text: names in requests and exceptions cannot forge another.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import wraps
from typing import IO, Any

from rich.logging import RichHandler

from kedro_flask_server.text import in_one_line, rfc3339

_KEDRO = "kedro.logging"
_ATTRIBUTE = "_kedro_server_is_terminal"
_WITHOUT_FORMAT = (None, "%(message)s")


def plain_line(record: logging.LogRecord, message: str) -> str:
    """Return a record as text: time, level, run if any, logger and message.

    Args:
        record: The record.
        message: Its message, with its traceback.
    """
    run_id = getattr(record, "run_id", "")
    of_run = f"{run_id} " if run_id else ""
    return in_one_line(f"{_time(record)} {record.levelname:<8} {of_run}{record.name}: {message}")


def json_line(record: logging.LogRecord, message: str) -> str:
    """Return a record as a JSON object in one line (https://jsonlines.org).

    Args:
        record: The record.
        message: Its message, with its traceback.
    """
    content = {"time": _time(record), "level": record.levelname, "logger": record.name}
    run_id = getattr(record, "run_id", "")
    if run_id:
        content["run_id"] = run_id
    return json.dumps({**content, "message": message})


def notice_of_dropped(lines: int) -> str:
    """Return the line that reports a number of dropped lines, in the chosen format."""
    text = f"{lines} lines of output were dropped: they were not read in time"
    record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
    return LINE_OF.get(_Chosen.log_format, plain_line)(record, text)


LINE_OF: dict[str, Callable[[logging.LogRecord, str], str]] = {
    "auto": plain_line,
    "plain": plain_line,
    "json": json_line,
}


def draw_for_terminals_only(log_format: str) -> None:
    """Make rich's handlers write plain lines unless they write to a terminal.

    Other stream handlers write one line for each record, and JSON if that is chosen and the stream
    is the server's output. Everything else of a project's logging configuration stays: levels,
    filters, other handlers, and formatters set on handlers.

    Args:
        log_format: ``auto`` has rich draw on a terminal alone, ``rich`` everywhere; ``plain`` and
            ``json`` apply on a terminal, too.
    """
    _Chosen.log_format = log_format
    if log_format == "json":
        logging.captureWarnings(True)  # warnings become records
    classes: list[type[RichHandler]] = [RichHandler]
    # A project's own subclasses may do more.
    classes += [each for each in RichHandler.__subclasses__() if each.__module__ == _KEDRO]
    for handler_class in classes:
        if not hasattr(handler_class.emit, "__wrapped__"):
            handler_class.emit = _unless_drawn(handler_class.emit)  # type: ignore[method-assign]
    if not hasattr(logging.StreamHandler.format, "__wrapped__"):
        logging.StreamHandler.format = _as_one_line(  # type: ignore[method-assign]
            logging.StreamHandler.format
        )


class _Chosen:
    """The log format of this process."""

    log_format = "rich"


class _Batch(threading.local):
    """The lines that a thread has collected, by file."""

    lines: dict[IO[str], list[str]] | None = None


_batch = _Batch()


@contextmanager
def written_together() -> Iterator[None]:
    """Within, collect the lines of this thread, and write them at the end."""
    batch = _batch.lines = {}
    try:
        yield
    finally:
        _batch.lines = None
        for file, lines in batch.items():
            with suppress(OSError, ValueError):  # the reader is gone
                _write(file, "".join(lines))


def _write(file: IO[str], text: str) -> None:
    if _batch.lines is not None:
        _batch.lines.setdefault(file, []).append(text)
        return
    file.write(text)
    file.flush()


def _unless_drawn(emit: Callable[[Any, logging.LogRecord], None]) -> Any:
    @wraps(emit)
    def emit_line(handler: RichHandler, record: logging.LogRecord) -> None:
        chosen = _Chosen.log_format
        if chosen == "rich" or (chosen == "auto" and _is_terminal(handler)):
            emit(handler, _with_run_id(record))
            return
        try:
            _write(handler.console.file, f"{_line(handler, record, chosen)}\n")
        except Exception:  # as every handler does
            handler.handleError(record)

    return emit_line


def _with_run_id(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record whose text begins with the id of its run, if it has one.

    Otherwise a terminal could not distinguish the lines of concurrent runs.
    """
    run_id = getattr(record, "run_id", "")
    if not run_id:
        return record
    shown = copy.copy(record)
    shown.msg, shown.args = f"{run_id} {record.getMessage()}", None
    vars(shown)["run_id"] = ""  # Kedro's handler calls rich's, which calls this again
    return shown


def _as_one_line(format_record: Callable[[Any, logging.LogRecord], str]) -> Any:
    @wraps(format_record)
    def format_as_one_line(handler: logging.StreamHandler[Any], record: logging.LogRecord) -> str:
        if _Chosen.log_format == "json" and handler.stream in (sys.stdout, sys.stderr):
            return json_line(record, _PLAIN_FORMATTER.format(record))
        return in_one_line(format_record(handler, record))

    return format_as_one_line


_PLAIN_FORMATTER = logging.Formatter()


def _is_terminal(handler: Any) -> bool:
    """Return whether a handler of rich writes to a terminal; cached."""
    is_terminal: bool | None = getattr(handler, _ATTRIBUTE, None)
    if is_terminal is None:
        is_terminal = bool(handler.console.is_terminal)
        setattr(handler, _ATTRIBUTE, is_terminal)
    return is_terminal


def _line(handler: logging.Handler, record: logging.LogRecord, log_format: str) -> str:
    message = handler.format(record)
    if log_format != "json" and _has_own_format(handler.formatter):
        return in_one_line(message)
    return LINE_OF[log_format](record, message)


def _has_own_format(formatter: logging.Formatter | None) -> bool:
    if formatter is None:
        return False
    is_own = type(formatter).format is not logging.Formatter.format
    return is_own or getattr(formatter, "_fmt", None) not in _WITHOUT_FORMAT


def _time(record: logging.LogRecord) -> str:
    return rfc3339(datetime.fromtimestamp(record.created, timezone.utc))
