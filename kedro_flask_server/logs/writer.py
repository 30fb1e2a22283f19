"""Writes what the runs log, in a thread of its own: a run does not wait for its log's handlers."""

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

# As often are records written, a batch at a time: to wake a thread for each costs the run more
# than to write it.
_EVERY_S = 0.02

# With more than these, the thread that logs writes them.
_MAX_WAITING = 10_000
_MAX_TOGETHER = 500

# So long is waited for handlers that are at work before one is removed.
_PATIENCE_S = 0.5

# What is the same when it is written.
_LASTING = (str, int, float, bool, type(None))

_Waiting = tuple[Context, logging.Logger, logging.LogRecord]


class LogWriter(logging.Handler):
    """Takes the records of all loggers, and has their handlers write them later, in order.

    Levels, filters and handlers are those of the loggers. An error is written at once, with all
    that came before it. It is a handler itself so that ``logging.shutdown`` flushes it.
    """

    def __init__(self) -> None:
        """Prepare; `start` begins."""
        super().__init__()
        self._waiting: deque[_Waiting] = deque()
        self._writing = threading.RLock()
        self._has_come = threading.Event()
        self._is_closing = threading.Event()
        self._thread = BackgroundThread(self._work, name="kedro-log-writer")

    def start(self) -> None:
        """Take the records of this process from now on."""
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
        """Take a record that a logger is to hand to its handlers."""
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        if not all(isinstance(each, _LASTING) for each in arguments):
            # What it says now; rich's handler at Kedro's colours arguments that are text.
            record.msg, record.args = record.getMessage(), None
        self._waiting.append((copy_context(), logger, record))
        is_closing = _Active.writer is not self
        if is_closing or record.levelno >= logging.ERROR or len(self._waiting) > _MAX_WAITING:
            self.flush()
        elif not self._has_come.is_set():
            self._has_come.set()

    def is_alive(self) -> bool:
        """Return whether its thread is at work."""
        return self._thread.is_alive()

    def flush(self) -> None:
        """Write all that has come."""
        with self._writing:
            while self._waiting:
                with written_together():
                    for _ in range(min(len(self._waiting), _MAX_TOGETHER)):
                        context, logger, record = self._waiting.popleft()
                        context.run(self._write, logger, record)

    def _write(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        try:
            logging.Logger.callHandlers.__wrapped__(logger, record)  # type: ignore[attr-defined]
        except Exception:  # a handler's or a filter's, and none of those that log
            self.handleError(record)

    def close(self) -> None:
        """Write all that has come, and leave what comes to those who log it."""
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
    """The writer of this process, if there is one."""

    writer: LogWriter | None = None

    @classmethod
    def forget(cls) -> None:
        cls.writer = None

    @classmethod
    def forget_in_child(cls) -> None:
        """Leave what waits to the parent, and whatever it is about."""
        if cls.writer is not None:
            cls.writer._waiting.clear()
            cls.writer._writing = threading.RLock()
        cls.forget()


def flush_logs() -> None:
    """Write all that was logged until now, where that is another thread's work."""
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
        # What came while the handler was there is its own; but others may be slow.
        if writer is not None and writer._writing.acquire(timeout=_PATIENCE_S):
            try:
                writer.flush()
            finally:
                writer._writing.release()
        remove(logger, handler)

    return flush_and_remove
