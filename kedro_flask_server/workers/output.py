"""A worker's output: printed lines go to the run's log, log lines to the server's output."""

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
    """Replaces ``sys.stdout`` and ``sys.stderr``.

    A run's log already has its log records. What their handlers write goes to the server's output;
    anything else is added to the run's log, line by line.
    """

    def __init__(self, name: str, descriptor: int, safe: Callable[[str], str]) -> None:
        """Replace a standard stream.

        Args:
            name: The name of the stream.
            descriptor: 1 or 2, still the server's.
            safe: Returns text that may be stored and shown.
        """
        self._descriptor = descriptor
        self._console = Console(descriptor, name=name, notice=notice_of_dropped)
        self._safe = safe
        self._file = _file_of(descriptor)
        # One per thread, so that they need no lock and do not end each other's lines.
        self._of_threads: dict[int, PrintedLines] = {}
        self.name = f"<{name}>"
        self.report: PipeReport | None = None
        """The report of the current run; None between runs."""

    @classmethod
    def take_over(cls, safe: Callable[[str], str]) -> tuple[Output, Output]:
        """Replace ``sys.stdout`` and ``sys.stderr``."""
        outputs = cls("stdout", 1, safe), cls("stderr", 2, safe)
        out, err = map(_text_of, outputs)
        replaced = {sys.stdout: out, sys.__stdout__: out, sys.stderr: err, sys.__stderr__: err}
        sys.stdout, sys.stderr = out, err
        sys.__stdout__, sys.__stderr__ = out, err  # type: ignore[misc]
        # Kedro configures logging on import, and not again where the project's configuration names
        # the project's package.
        redirect_handlers({old: new for old, new in replaced.items() if old is not None})
        _mark_handlers()
        return outputs

    @property
    def is_redirected(self) -> bool:
        """Whether the project has redirected the descriptor (dup2(2))."""
        file = _file_of(self._descriptor)
        return file is not None and file != self._file

    def redirect(self, descriptor: int) -> None:
        """Redirect output that bypasses Python, unless the project has redirected it."""
        if not self.is_redirected:
            os.dup2(descriptor, self._descriptor)
            self._file = _file_of(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor, for child processes."""
        return self._descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether a terminal is attached: for log lines alone."""
        return _is_logging.get() and self._console.isatty()

    def leave_kept_to_template(self) -> None:
        """Drop what the forked process has buffered for a slow reader: that process writes it."""
        self._console.forget_kept()

    def settle(self, seconds: float) -> int:
        """Write what is buffered for a slow reader; return how many lines cannot be written.

        Args:
            seconds: How long to wait at most.
        """
        return self._console.settle(seconds)

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        raw = bytes(data)
        if self.is_redirected:
            return _write_all(self._descriptor, raw)
        if self.report is None or _is_logging.get():
            return self._console.write(raw)
        self._capture(self.report, raw)
        return len(raw)

    def _capture(self, report: PipeReport, raw: bytes) -> None:
        if report.is_full:
            self._of_threads.clear()
            report.drop(raw.count(b"\n"), len(raw))
            return
        thread = get_ident()
        lines = self._of_threads.get(thread)
        if lines is None:
            lines = self._of_threads[thread] = PrintedLines()
        for start in range(0, len(raw), MAX_PRINTED_BYTES):
            self._log(report, lines.feed(raw[start : start + MAX_PRINTED_BYTES]))

    def end_line(self) -> None:
        """Log lines that have no line end yet."""
        of_threads, self._of_threads = self._of_threads, {}
        if self.report is not None:
            for lines in of_threads.values():
                self._log(self.report, lines.end())

    def _log(self, report: PipeReport, lines: list[bytes | bytearray]) -> None:
        if lines:
            report.log_output([shown_line(line, self._safe) for line in lines])


def _file_of(descriptor: int) -> tuple[int, int] | None:
    """Return the device and inode of a descriptor; None if it is closed."""
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
        output,  # as Python does when unbuffered (-u)
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
