"""Log handlers in workers: with files and connections of their own, as in a new process."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

# Files whose lines belong to the server's output, not to the worker's.
_STANDARD = {f"/dev/std{name}" for name in ("out", "err")} | {
    f"{folder}/{number}" for folder in ("/dev/fd", "/proc/self/fd") for number in (1, 2)
}


class Handlers:
    """The log handlers that exist once the project has been imported.

    Workers share the files that the template's handlers have open, and are started before they get
    a run: meanwhile other runs may have rotated a log file. So each run reopens the files by name,
    as new handlers do.
    """

    def __init__(self) -> None:
        """Record the existing handlers, and flush them."""
        found = [*all_handlers()]
        for handler in found:
            with suppress(Exception):  # of any class, perhaps closed
                handler.flush()
        files = [each for each in found if isinstance(each, logging.FileHandler)]
        self._files = [each for each in files if each.baseFilename not in _STANDARD]
        for each in files:
            if each.baseFilename in _STANDARD and each.stream is None:
                with suppress(OSError):
                    each.stream = each._open()
        self._sockets = [each for each in found if isinstance(each, logging.handlers.SocketHandler)]
        self._syslogs = [each for each in found if isinstance(each, logging.handlers.SysLogHandler)]
        self._owner = os.getpid()
        self._streams = {id(each): each.stream for each in self._files}

    def descriptors(self) -> set[int]:
        """Return the descriptors that each run reopens, and those of the server's output."""
        found: list[Any] = [
            each.stream for each in all_handlers() if isinstance(each, logging.FileHandler)
        ]
        found += [each.sock for each in self._sockets]
        found += [getattr(each, "socket", None) for each in self._syslogs]
        descriptors = set()
        for each in found:
            with suppress(Exception):  # not open
                descriptors.add(each.fileno())
        return descriptors

    def renew(self) -> None:
        """Reopen files and connections."""
        for handler in self._files:
            with suppress(Exception):  # logging opens it, and reports the failure
                self._reopen(handler)
        for connected in self._sockets:
            if connected.sock is not None:
                connected.sock.close()
                connected.sock = None  # the next record connects it
                connected.retryTime = None
        for syslog in self._syslogs:
            with suppress(OSError):
                _connect_again(syslog)

    def _reopen(self, handler: logging.FileHandler) -> None:
        handler.acquire()
        try:
            stream = handler.stream
            if stream is None:
                return
            is_shared = os.getpid() != self._owner and stream is self._streams.get(id(handler))
            if is_shared and type(stream) is not io.TextIOWrapper:  # that is flushed already
                _disconnect(stream)
            handler.stream = None
            with suppress(Exception):
                stream.close()
            if not handler.delay:
                handler.stream = handler._open()
            if isinstance(handler, logging.handlers.TimedRotatingFileHandler):
                handler.rolloverAt = handler.computeRollover(_last_written_at(handler))
            elif isinstance(handler, logging.handlers.WatchedFileHandler):
                handler._statstream()
        finally:
            handler.release()


def all_handlers() -> Iterator[logging.Handler]:
    """Return all handlers, including the targets of other handlers."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    found: list[Any] = [each() for each in logging._handlerList]  # type: ignore[attr-defined]
    for logger in loggers:
        found += getattr(logger, "handlers", ())
    found += [getattr(each, "target", None) for each in found]
    seen = {id(each): each for each in found if isinstance(each, logging.Handler)}
    yield from seen.values()


def redirect_handlers(streams: Mapping[IO[str], IO[str]]) -> None:
    """Replace the streams of handlers.

    Args:
        streams: The new stream, by the old one.
    """
    for handler in all_handlers():
        if isinstance(handler, logging.StreamHandler):
            # The stream of logging.lastResort is a property.
            if "stream" in vars(handler) and handler.stream in streams:
                handler.setStream(streams[handler.stream])
            continue
        console = getattr(handler, "console", None)  # rich's
        if getattr(console, "file", None) in streams:
            console.file = streams[console.file]  # type: ignore[union-attr]


def _disconnect(stream: IO[Any]) -> None:
    """Redirect a stream to the null device, for late writes such as the end of a compressed file.

    The file behind it is shared with the template and with other workers.
    """
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, stream.fileno(), inheritable=False)
    finally:
        os.close(nothing)


def _last_written_at(handler: logging.FileHandler) -> int:
    try:
        return int(os.stat(handler.baseFilename).st_mtime)  # noqa: PTH116
    except OSError:
        return int(time.time())


def _connect_again(handler: Any) -> None:
    # How to connect differs between versions of Python; the constructor does not.
    made = logging.handlers.SysLogHandler(
        address=handler.address,
        facility=handler.facility,
        socktype=handler.socktype,
    )
    handler.socket, shared = getattr(made, "socket", None), handler.socket
    if shared is not None:
        shared.close()
