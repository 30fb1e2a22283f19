"""Bounds log records, whichever code logs them, and attributes them to runs.

A node's exception ends up in Kedro's own log lines, too. Rich, which draws them, takes time that
grows with the square of a line's length while every other thread waits; and a lone surrogate in one
line makes that line and all later ones fail.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from kedro_flask_server.model.report import Report
from kedro_flask_server.text import MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS, bounded_end, visible

# What rich highlights in about 10 ms at worst (a line of digits).
_MAX_HIGHLIGHTED_CHARS = 500


@dataclass(frozen=True, slots=True)
class _Run:
    run_id: str
    report: Report


_current: ContextVar[_Run | None] = ContextVar("kedro_server_run", default=None)


@contextmanager
def logs_of(run_id: str, report: Report) -> Iterator[None]:
    """Add log records of this thread, and of threads that inherit its context, to a run's log.

    Args:
        run_id: The run's id.
        report: Receives the records.
    """
    token = _current.set(_Run(run_id, report))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def logs_of_process(run_id: str, report: Report) -> Iterator[None]:
    """Add all log records of this process to a run's log, whatever their thread.

    Args:
        run_id: The run's id.
        report: Receives the records.
    """
    _OfProcess.run = _Run(run_id, report)
    try:
        yield
    finally:
        _OfProcess.run = None


class _OfProcess:
    """Global state of this process: the run of the records that belong to no other run."""

    run: _Run | None = None


def current_report() -> Report | None:
    """Return the report of the run that this thread, or this process, executes."""
    run = _current.get() or _OfProcess.run
    return run.report if run else None


def make_records_safe(safe: Callable[[str], str]) -> None:
    """Show the server's own log lines, and make every record of this process safe to write.

    The server's lines are shown from INFO on, as Kedro's and the project's are, unless the
    project's logging configuration says otherwise for ``kedro_flask_server``.

    A record stays as it is unless it is long or its text has to change; then it is drawn without
    highlighting, and its exception is turned into text. Control characters are escaped, so that a
    terminal does not execute them. Each record gets a ``run_id``, which is empty if it belongs to
    no run.

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
    """A record that ``rich.logging.RichHandler`` draws as it is; it defines the names.

    They are class attributes because logging rejects an ``extra`` with the name of an attribute of
    the record.
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
        run = _current.get() or _OfProcess.run
        record.run_id = run.run_id if run else ""
        try:
            text = record.getMessage()
        except Exception:  # wrong arguments, which logging reports when it writes the record
            return record
        shown = visible(self._safe(text))
        with_trace = shown
        raised = record.exc_info[1] if record.exc_info and len(record.exc_info) > 1 else None
        if raised is not None:
            parts = traceback.format_exception(raised)
            safe_parts = [visible(self._safe(part)) for part in parts]
            with_trace = "\n".join([shown, "".join(safe_parts)])
            if safe_parts != parts or max(map(len, parts)) > _MAX_HIGHLIGHTED_CHARS:
                shown = with_trace
                record.exc_info = None
        # logging.makeLogRecord() sets the fields later.
        if run is not None and record.name is not None:
            text_of_run = _bounded(with_trace).rstrip("\n")
            run.report.log(str(record.levelname), str(record.name), text_of_run)
        if shown != text:
            record.msg, record.args = shown, ()
        if shown != text or len(shown) > _MAX_HIGHLIGHTED_CHARS:
            record.__class__ = _PlainRecord
        return record


def _bounded(text: str) -> str:
    # The end of a long traceback names the exception.
    return bounded_end(text, MAX_MESSAGE_CHARS + MAX_TRACEBACK_CHARS)
