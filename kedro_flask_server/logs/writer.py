"""Writes the runs' log records in a thread of its own, so that runs do not wait for handlers."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import wraps
from typing import Any

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.logs.lines import written_together

# How often batches are written: a wake-up per record costs the run more than writing it.
_EVERY_S = 0.02

# Above this, the logging thread writes them.
_MAX_WAITING = 10_000
_MAX_TOGETHER = 500

# How long to wait for busy handlers before one is removed.
_PATIENCE_S = 0.5

# Immutable: the same when it is written.
_LASTING = (str, int, float, bool, type(None))

_Waiting = tuple[Context, logging.Logger, logging.LogRecord]


class LogWriter(logging.Handler):
    """Queues the records of all loggers, whose handlers write them later, in order.

    Levels, filters and handlers of the loggers apply. An error is written at once, with all that
    precedes it. A handler itself, so that ``logging.shutdown`` flushes it.
    """

    def __init__(self) -> None:
        """Prepare; `start` begins."""
        super().__init__()
        self._thread = BackgroundThread(self._work, name="kedro-log-writer")
        self._reset()

    def _reset(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._writing = threading.RLock()
        self._has_come = threading.Event()
        self._is_closing = threading.Event()

    def start(self) -> None:
        """Queue the records of this process from now on."""
        if _Active.writer is self:
            return
        call = logging.Logger.callHandlers
        if not hasattr(call, "__wrapped__"):
            remove = logging.Logger.removeHandler
            logging.Logger.callHandlers = _handing_over(call)  # type: ignore[method-assign]
            logging.Logger.removeHandler = _flushing(remove)  # type: ignore[method-assign]
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_Active.forget_in_child)
        self._thread.start()
        _Active.writer = self

    def take(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Queue a record for the handlers of its logger."""
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        if not all(isinstance(each, _LASTING) for each in arguments):
            # Formatted now, as arguments may change; rich's handler in Kedro colours string
            # arguments.
            record.msg, record.args = record.getMessage(), None
        self._waiting.append((copy_context(), logger, record))
        is_closing = _Active.writer is not self
        if is_closing or record.levelno >= logging.ERROR or len(self._waiting) > _MAX_WAITING:
            self.flush()
        elif not self._has_come.is_set():
            self._has_come.set()

    def is_alive(self) -> bool:
        """Return whether its thread is running."""
        return self._thread.is_alive()

    def flush(self) -> None:
        """Write all queued records."""
        with self._writing:
            while self._waiting:
                with written_together():
                    for _ in range(min(len(self._waiting), _MAX_TOGETHER)):
                        context, logger, record = self._waiting.popleft()
                        context.run(self._write, logger, record)

    def _write(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        try:
            logging.Logger.callHandlers.__wrapped__(logger, record)  # type: ignore[attr-defined]
        except Exception:  # raised by a handler or filter, not by the code that logs
            self.handleError(record)

    def close(self) -> None:
        """Write all queued records, and let later ones be written by their own threads."""
        if _Active.writer is self:
            _Active.forget()
        self._is_closing.set()
        self._has_come.set()
        if threading.current_thread().name != "kedro-log-writer":
            self._thread.join()
        self.flush()
        super().close()

    def _work(self) -> None:
        while not self._is_closing.is_set():
            self._has_come.wait()
            self._is_closing.wait(_EVERY_S)
            self._has_come.clear()
            self.flush()


class _Active:
    """Global state of this process: its writer, since logging is one for all."""

    writer: LogWriter | None = None

    @classmethod
    def forget(cls) -> None:
        cls.writer = None

    @classmethod
    def forget_in_child(cls) -> None:
        """Leave queued records, and locks that are held, to the parent process."""
        if cls.writer is not None:
            cls.writer._reset()
        cls.forget()


def flush_logs() -> None:
    """Write all records logged so far, if a writer queues them."""
    if _Active.writer is not None:
        _Active.writer.flush()


def _handing_over(call: Callable[[logging.Logger, logging.LogRecord], None]) -> Any:
    @wraps(call)
    def hand_over(logger: logging.Logger, record: logging.LogRecord) -> None:
        writer = _Active.writer
        if writer is None:
            call(logger, record)
        else:
            writer.take(logger, record)

    return hand_over


def _flushing(remove: Callable[[logging.Logger, logging.Handler], None]) -> Any:
    @wraps(remove)
    def flush_and_remove(logger: logging.Logger, handler: logging.Handler) -> None:
        writer = _Active.writer
        # Queued records belong to the handler, too; but other handlers may be slow.
        if writer is not None and writer._writing.acquire(timeout=_PATIENCE_S):
            try:
                writer.flush()
            finally:
                writer._writing.release()
        remove(logger, handler)

    return flush_and_remove
