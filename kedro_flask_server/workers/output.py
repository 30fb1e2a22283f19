"""Where a worker's output goes: what a run prints into its log, log lines to the server's."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from threading import get_ident
from typing import Any

from kedro_flask_server.logs import notice_of_dropped
from kedro_flask_server.logs.console import Console
from kedro_flask_server.text import MAX_PRINTED_BYTES, PrintedLines, shown_line
from kedro_flask_server.workers.handlers import redirect_handlers
from kedro_flask_server.workers.report import PipeReport

_is_logging: ContextVar[bool] = ContextVar("kedro_server_is_logging", default=False)


class Output(io.RawIOBase):
    """Stands in for ``sys.stdout`` and ``sys.stderr``.

    The log records of a run are in its log already. What their handlers write goes to where the
    server's own lines go; what else is written, a line at a time, into the run's log.
    """

    def __init__(self, name: str, descriptor: int, safe: Callable[[str], str]) -> None:
        """Take the place of a descriptor.

        Args:
            name: What it stands in for.
            descriptor: 1 or 2, which are the server's as yet.
            safe: Returns text that may be kept and shown.
        """
        self._descriptor = descriptor
        self._console = Console(descriptor, name=name, notice=notice_of_dropped)
        self._safe = safe
        self._file = _file_of(descriptor)
        # Each thread has its own, so that none needs a lock nor ends another's line.
        self._of_threads: dict[int, PrintedLines] = {}
        self.name = f"<{name}>"
        self.report: PipeReport | None = None
        """The run; None while there is none."""

    @classmethod
    def take_over(cls, safe: Callable[[str], str]) -> tuple[Output, Output]:
        """Put one in the place of ``sys.stdout`` and one in that of ``sys.stderr``."""
        outputs = cls("stdout", 1, safe), cls("stderr", 2, safe)
        out, err = map(_text_of, outputs)
        replaced = {sys.stdout: out, sys.__stdout__: out, sys.stderr: err, sys.__stderr__: err}
        sys.stdout, sys.stderr = out, err
        sys.__stdout__, sys.__stderr__ = out, err  # type: ignore[misc]
        # Kedro configures logging when it is imported, and not again where the project's
        # configuration names the project's package.
        redirect_handlers({old: new for old, new in replaced.items() if old is not None})
        _mark_handlers()
        return outputs

    @property
    def is_redirected(self) -> bool:
        """Whether the project has put something else in the place of the descriptor (dup2(2))."""
        file = _file_of(self._descriptor)
        return file is not None and file != self._file

    def redirect(self, descriptor: int) -> None:
        """Have what is written past Python go to a descriptor, unless the project redirects it."""
        if not self.is_redirected:
            os.dup2(descriptor, self._descriptor)
            self._file = _file_of(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor, for programs that are started with it."""
        return self._descriptor

    def writable(self) -> bool:
        """Return that it can be written."""
        return True

    def isatty(self) -> bool:
        """Return whether a person waiters: log lines alone are drawn."""
        return _is_logging.get() and self._console.isatty()

    def leave_kept_to_template(self) -> None:
        """Write nothing that the process which was forked keeps for a slow reader: it will."""
        self._console.forget_kept()

    def settle(self, seconds: float) -> int:
        """Write what is kept for a slow reader; return how many lines cannot be written.

        Args:
            seconds: For how long to wait at most.
        """
        return self._console.settle(seconds)

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        raw = bytes(data)
        if self.is_redirected:
            return _write_all(self._descriptor, raw)
        if self.report is None or _is_logging.get():
            return self._console.write(raw)
        self._take(self.report, raw)
        return len(raw)

    def _take(self, report: PipeReport, raw: bytes) -> None:
        if report.is_full:
            self._of_threads.clear()
            report.drop(raw.count(b"\n"), len(raw))
            return
        thread = get_ident()
        lines = self._of_threads.get(thread)
        if lines is None:
            lines = self._of_threads[thread] = PrintedLines()
        for start in range(0, len(raw), MAX_PRINTED_BYTES):
            self._tell(report, lines.feed(raw[start : start + MAX_PRINTED_BYTES]))

    def end_line(self) -> None:
        """Have what has no line end yet told."""
        of_threads, self._of_threads = self._of_threads, {}
        if self.report is not None:
            for lines in of_threads.values():
                self._tell(self.report, lines.end())

    def _tell(self, report: PipeReport, lines: list[bytes | bytearray]) -> None:
        if lines:
            report.log_output([shown_line(line, self._safe) for line in lines])


def _file_of(descriptor: int) -> tuple[int, int] | None:
    """Return what a descriptor leads to; None where it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _write_all(descriptor: int, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    return len(data)


def _text_of(output: Output) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        output,  # as Python itself does where it does not buffer (-u)
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )


def _mark_handlers() -> None:
    handle = logging.Handler.handle
    if hasattr(handle, "__wrapped__"):
        return

    @wraps(handle)
    def handle_apart(self: logging.Handler, record: logging.LogRecord) -> Any:
        token = _is_logging.set(True)
        try:
            return handle(self, record)
        finally:
            _is_logging.reset(token)

    logging.Handler.handle = handle_apart  # type: ignore[method-assign]
