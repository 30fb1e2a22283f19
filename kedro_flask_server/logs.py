"""Keeps what is logged within bounds, whoever logs it, and with the run that it belongs to.

A node's exception ends up in Kedro's own log lines, too. Rich, which draws them, takes time
that grows with the square of a line's length while every other thread waits; and a lone
surrogate in one line fails that line and all that follow.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kedro_flask_server.runs.reporting import Report
from kedro_flask_server.text import MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS, bounded_end, visible

# What rich highlights of a line in about 10 ms at worst (a line of digits).
_MAX_HIGHLIGHTED_CHARS = 500

_reported_to: ContextVar[Report | None] = ContextVar("kedro_server_run", default=None)


@contextmanager
def logs_of(report: Report) -> Iterator[None]:
    """Have what this thread logs, and the threads that inherit its context, added to a run's log.

    Args:
        report: Takes the records down.
    """
    token = _reported_to.set(report)
    try:
        yield
    finally:
        _reported_to.reset(token)


@contextmanager
def logs_of_process(report: Report) -> Iterator[None]:
    """Have everything that this process logs added to a run's log, whatever thread it is.

    Args:
        report: Takes the records down.
    """
    _ProcessLog.report = report
    try:
        yield
    finally:
        _ProcessLog.report = None


class _ProcessLog:
    """Where the records of a process go that are no other run's."""

    report: Report | None = None


def set_up_logging(safe: Callable[[str], str]) -> None:
    """Show the server's own log lines, and make every record of this process safe to write.

    The server's lines are shown from INFO on, as Kedro's and the project's are, unless the
    project's logging configuration says otherwise for ``kedro_flask_server``.

    A record is left as it is unless it is long or its text has to change; then it is drawn
    without highlighting, and an exception that comes with it is turned into text.

    Args:
        safe: Returns text that may be logged.
    """
    own = logging.getLogger("kedro_flask_server")
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)
    make = logging.getLogRecordFactory()
    if not isinstance(make, _SafeRecords):
        logging.setLogRecordFactory(_SafeRecords(make, safe))


class _PlainRecord(logging.LogRecord):
    """A record that ``rich.logging.RichHandler`` draws as it is; the names are that handler's.

    They belong to the class because logging refuses an ``extra`` of a name that the record
    itself has.
    """

    highlighter = None
    markup = False


class _SafeRecords:
    """A log record factory (https://docs.python.org/3/library/logging.html#logrecord-objects)."""

    def __init__(self, make: Callable[..., logging.LogRecord], safe: Callable[[str], str]) -> None:
        self._make = make
        self._safe = safe

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # wrong arguments, which logging reports when it writes the record
            return record
        shown = self._safe(text)
        with_trace = shown
        raised = record.exc_info[1] if record.exc_info and len(record.exc_info) > 1 else None
        if raised is not None:
            parts = traceback.format_exception(raised)
            safe_parts = [self._safe(part) for part in parts]
            with_trace = "\n".join([shown, "".join(safe_parts)])
            if safe_parts != parts or max(map(len, parts)) > _MAX_HIGHLIGHTED_CHARS:
                shown = with_trace
                record.exc_info = None
        report = _reported_to.get() or _ProcessLog.report
        # Of logging.makeLogRecord(), nothing is known yet.
        if report is not None and record.name is not None:
            text_of_run = visible(_bounded(with_trace)).rstrip("\n")
            report.log(str(record.levelname), str(record.name), text_of_run)
        if shown != text:
            record.msg, record.args = shown, ()
        if shown != text or len(shown) > _MAX_HIGHLIGHTED_CHARS:
            record.__class__ = _PlainRecord
        return record


def _bounded(text: str) -> str:
    # Of a long one the traceback makes the most; its end says what was raised.
    return bounded_end(text, MAX_MESSAGE_CHARS + MAX_TRACEBACK_CHARS)
