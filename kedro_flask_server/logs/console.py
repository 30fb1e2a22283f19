"""The server's output, written without waiting for its reader.

A paused terminal (Ctrl-S) or a stuck log driver blocks a program that writes to it, and with it
runs, responses and signals.
"""

from __future__ import annotations

import io
import logging
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# Bound of the buffer for a slow reader.
_MAX_BYTES = 1 << 20

# How long to wait, once the buffer is full, for a reader that was not stuck before.
_PATIENCE_MS = 100

_LOOK_EVERY_S = 0.5


class Console(io.RawIOBase):
    """Writes to a descriptor without blocking, and buffers the rest, up to a bound.

    Lines beyond the bound are dropped and counted; the count is written once there is room.
    Thread-safe.
    """

    def __init__(self, descriptor: int, *, name: str, notice: Callable[[int], str]) -> None:
        """Write to a duplicate of a descriptor.

        Args:
            descriptor: A file, pipe, terminal or socket.
            name: The name of the stream.
            notice: Returns the line that reports a number of dropped lines.
        """
        self._descriptor = os.dup(descriptor)
        self._notice = notice
        self._writer = _Writer(self._descriptor)
        # Reentrant: a finalizer that runs in here may log.
        self._lock = threading.RLock()
        self._kept = bytearray()
        self._dropped = 0
        self._is_stuck = False
        self.name = name

    def close(self) -> None:
        """Close the duplicate; buffered data is discarded."""
        if not self.closed:
            self._writer.close()
            os.close(self._descriptor)
        super().close()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Write bytes, or buffer or drop them; blocks for a moment at most."""
        raw = bytes(data)
        with self._lock:
            has_room = self.write_kept()
            written = self._writer.write(raw) if has_room else 0
            rest = raw[written:]
            if rest:
                if len(self._kept) + len(rest) > _MAX_BYTES and not self._is_stuck:
                    self._is_stuck = not _is_writable(self._descriptor, _PATIENCE_MS)
                    self.write_kept()
                # The rest of a line that has begun is never dropped.
                if written or len(self._kept) + len(rest) <= _MAX_BYTES:
                    self._kept += rest
                else:
                    self._dropped += max(1, rest.count(b"\n"))
        return len(raw)

    def write_kept(self) -> bool:
        """Write buffered data as far as there is room; return whether none is left."""
        with self._lock:
            while self._kept or self._dropped:
                if not self._kept:
                    self._kept += self._notice(self._dropped).encode("utf-8", "replace") + b"\n"
                    self._dropped = 0
                written = self._writer.write(bytes(self._kept[: select.PIPE_BUF]))
                if not written:
                    return False
                self._is_stuck = False
                del self._kept[:written]
            return True

    def settle(self, seconds: float) -> int:
        """Write buffered data, waiting for room for some seconds at most.

        Returns:
            How many lines are not written, including those that were dropped.
        """
        ends_at = time.monotonic() + (0 if self._is_stuck else seconds)
        while not self.write_kept():
            remaining_s = ends_at - time.monotonic()
            if remaining_s <= 0 or not _is_writable(self._descriptor, int(remaining_s * 1000)):
                self._is_stuck = True
                return self._dropped + self._kept.count(b"\n")
        return 0

    def forget_kept(self) -> None:
        """Discard buffered data: another process writes it."""
        with self._lock:
            self._kept.clear()
            self._dropped = 0


class Consoles:
    """``sys.stdout`` and ``sys.stderr`` as consoles, and a thread that writes buffered data."""

    def __init__(self, notice: Callable[[int], str]) -> None:
        """Prepare; `take_over` begins.

        Args:
            notice: As for `Console`.
        """
        self._notice = notice
        self._consoles: list[Console] = []

    def take_over(self) -> None:
        """Replace both streams by consoles, also in existing log handlers."""
        for name in ("stdout", "stderr"):
            former = getattr(sys, name)
            try:
                former.flush()
                descriptor = former.fileno()
            except (AttributeError, OSError, ValueError):  # missing, or not a file
                continue
            console = Console(descriptor, name=f"<{name}>", notice=self._notice)
            stream = io.TextIOWrapper(
                console,
                encoding=getattr(former, "encoding", None) or "utf-8",
                errors="backslashreplace",
                write_through=True,
            )
            setattr(sys, name, stream)
            for reference in [*logging._handlerList]:  # type: ignore[attr-defined]
                handler = reference()
                if isinstance(handler, logging.StreamHandler) and handler.stream is former:
                    handler.setStream(stream)
            self._consoles.append(console)
        threading.Thread(target=self._work, name="kedro-console", daemon=True).start()

    def settle(self, seconds: float) -> None:
        """Write buffered data, as for `Console`."""
        for console in self._consoles:
            console.settle(seconds)

    def _work(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_S)
            for console in self._consoles:
                with suppress(OSError):
                    console.write_kept()


class _Writer:
    """Writes to a descriptor without ever blocking."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._socket: socket.socket | None = None
        self._own: int | None = None
        mode = os.fstat(descriptor).st_mode
        self._is_file = stat.S_ISREG(mode)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif not self._is_file:
            # An open file description of its own: others that share the descriptor must not become
            # non-blocking.
            with suppress(OSError):  # not Linux, or another user's
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
                self._own = os.open(f"/proc/self/fd/{descriptor}", flags)

    def write(self, data: bytes) -> int:
        """Return how many bytes were written; all, if the reader is gone for good."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            if self._own is not None or self._is_file:
                return os.write(self._own or self._descriptor, data)
            is_ready = _is_writable(self._descriptor, 0)
            return os.write(self._descriptor, data[: select.PIPE_BUF]) if is_ready else 0
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._own is not None:
            os.close(self._own)


def _is_writable(descriptor: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(milliseconds))
