"""What a run in a worker process tells, on its way to the server: both ends.

It goes through a pipe. A write of up to ``PIPE_BUF`` bytes is whole there, however many write
(pipe(7)): threads and forked processes need no lock, and what was written before a crash is there
after it. A message that is longer goes in parts, which the server joins.

The server reads from time to time, because to wake for each message costs more than the message.
So that no writer waits for that time, each wakes the server when it has written some kilobytes, or
finds the pipe full. While a run goes on, what it tells is handled beside it: a chain of 100 nodes
takes 61 ms, not 66, when the server is woken every 16 KiB instead of every 256.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any

from kedro_flask_server.model.event import OUTPUT, EventType
from kedro_flask_server.model.report import node_of_thread, record_bytes, size_bytes
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.protocol import Message, line_of, messages_in

# What a burst of some thousand lines takes, for which the server need not be quick.
_PIPE_BYTES = 1 << 20

# Where the system does not tell: less, it may be, and then a writer finds the pipe full.
_USUAL_PIPE_BYTES = 1 << 16

_CHUNK_BYTES = 1 << 16

_WAKE_EVERY_BYTES = 1 << 14

# A part says who writes, which message it belongs to, and how many parts are still to come.
_PART = b"+"
_MAX_PART_BYTES = select.PIPE_BUF - 64

# Of messages that have not come to their end: their writers may have died.
_MAX_PARTS_BYTES = 1 << 27


def open_report_pipe() -> tuple[ReportReader, int]:
    """Return the server's end of a new pipe, and the descriptor of the worker's.

    Raises:
        OSError: If the system gives no more descriptors.
    """
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # a user's pipes may take so much memory together, and no more
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ReportReader(reading), writing


class PipeReport:
    """Tells the server, from every thread, and from every process forked here.

    What is told is in the kernel's hands when the call returns, so that a crash loses none of it.
    """

    is_shared = True

    def __init__(self, pipe: int, wake: Callable[[], object]) -> None:
        """Tell through a pipe.

        Args:
            pipe: The descriptor of its writing end.
            wake: Has the server read it.
        """
        os.set_inheritable(pipe, False)
        self._pipe = pipe
        self._wake = wake
        self._wake_every_bytes = min(_WAKE_EVERY_BYTES, _capacity_of(pipe) // 4)
        self._unread_bytes = 0
        self._numbers = count()
        self._room_bytes = 0
        self._dropped = _Dropped()
        self.stop: Interruption | None = None
        """Whose interruption waits until a message is whole, where it has to wait or has parts."""
        os.register_at_fork(after_in_child=self._count_anew)

    def begin(self, *, max_log_bytes: int) -> None:
        """Begin to tell of another run.

        Args:
            max_log_bytes: How many bytes of log are told; the rest is counted.
        """
        self._room_bytes = max_log_bytes
        self._count_anew()

    def _count_anew(self) -> None:
        self._dropped = _Dropped()

    def expect(self, nodes: int) -> None:
        """Say how many nodes the run has."""
        self.send("expect", {"nodes": nodes})

    def emit(self, kind: EventType, data: dict[str, Any]) -> None:
        """Say what has happened."""
        self.send("event", {"type": kind.value, "time": time.time(), "data": data})

    def log(self, level: str, logger: str, message: str) -> None:
        """Add to the run's log."""
        node = node_of_thread()
        if self._has_room(record_bytes(level, logger, node), message):
            self._send_records(_said_by(level, logger, node), json.dumps(message))

    def log_output(self, lines: Sequence[str]) -> None:
        """Add lines that were printed together to the run's log."""
        node = node_of_thread()
        overhead = record_bytes("INFO", OUTPUT, node)
        kept = [json.dumps(line) for line in lines if self._has_room(overhead, line)]
        if kept:
            self._send_records(_said_by("INFO", OUTPUT, node), ", ".join(kept))

    def _send_records(self, said_by: str, messages: str) -> None:
        # To have it put together by `line_of` takes as long as all the rest.
        text = f'\n["log", {{"time": {time.time()!r}, {said_by}, "messages": [{messages}]}}]\n'
        self._send_line(text.encode())

    def _has_room(self, overhead_bytes: int, message: str) -> bool:
        size = size_bytes(message)
        if not self.is_full:
            self._room_bytes -= overhead_bytes + size
            if not self.is_full:
                return True
        self.drop(1, size)
        return False

    @property
    def is_full(self) -> bool:
        """Whether what is logged from now on is left out: need not be made safe, nor told."""
        return self._room_bytes < 0

    def drop(self, lines: int, size: int) -> None:
        """Count what is not told for want of room; say so now and then, for a run may crash."""
        if self._dropped.add(lines, size):
            self.report_dropped()

    def report_dropped(self) -> None:
        """Say how much of the log was not told by this process, if anything was not."""
        found = self._dropped
        if found.lines or found.size:
            self.send("left_out", {"by": os.getpid(), "lines": found.lines, "bytes": found.size})

    def send(self, kind: str, body: dict[str, Any]) -> None:
        """Send a message, whole, however many send; where the server is gone, do nothing."""
        self._send_line(line_of(kind, body))

    def _send_line(self, line: bytes) -> None:
        try:
            if len(line) > select.PIPE_BUF:
                self._write_all(self._parts_of(line))
            else:
                self._write(line)
        except BlockingIOError:
            self._write_all([line])
        except OSError:  # so is this process, in a moment
            pass

    def _parts_of(self, line: bytes) -> Iterator[bytes]:
        content = line.strip()
        who = b"%d.%d" % (os.getpid(), next(self._numbers))
        starts = range(0, len(content), _MAX_PART_BYTES)
        for left, start in zip(reversed(range(len(starts))), starts, strict=True):
            piece = content[start : start + _MAX_PART_BYTES]
            yield b"\n%s%s %d %s\n" % (_PART, who, left, piece)

    def _write_all(self, lines: Iterable[bytes]) -> None:
        raises = self.stop is not None and self.stop.hold()
        try:
            for line in lines:
                self._write_when_there_is_room(line)
        except OSError:  # as above
            pass
        finally:
            if self.stop is not None:
                self.stop.release(raises=raises)

    def _write_when_there_is_room(self, line: bytes) -> None:
        while True:
            try:
                self._write(line)
            except BlockingIOError:
                self._wake()
                poll = select.poll()
                poll.register(self._pipe, select.POLLOUT)
                poll.poll()
            else:
                return

    def _write(self, line: bytes) -> None:
        os.write(self._pipe, line)
        self._unread_bytes += len(line)
        if self._unread_bytes > self._wake_every_bytes:
            self._unread_bytes = 0
            self._wake()


@lru_cache(1024)
def _said_by(level: str, logger: str, node: str | None) -> str:
    return json.dumps({"level": level, "logger": logger, "node": node})[1:-1]


@dataclass(slots=True)
class _Dropped:
    """What a process has left out of its run's log."""

    lines: int = 0
    size: int = 0
    _say_at: int = 0
    # To be taken twice: a finalizer that runs in here may log.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, lines: int, size: int) -> bool:
        """Add to it, and return whether that is to be told: it has doubled since the last time."""
        with self._lock:
            self.lines += lines
            self.size += size
            if self.size < self._say_at:
                return False
            self._say_at = 2 * self.size + 1  # lines may be empty
            return True


class ReportReader:
    """The server's end of the pipe. One thread reads."""

    def __init__(self, pipe: int) -> None:
        """Read from a pipe.

        Args:
            pipe: The descriptor of its reading end, which this owns.
        """
        self._pipe = pipe
        self._capacity_bytes = _capacity_of(pipe)
        self._received = bytearray()
        self._parts: dict[bytes, list[bytes]] = {}
        self._parts_bytes = 0

    def read(self) -> list[Message]:
        """Return what was told up to the moment of the call.

        What is no message is left out: a run's code can write to this pipe, too.
        """
        size = len(self._received)
        with suppress(OSError):  # there is no more, or it is closed
            while len(self._received) - size < self._capacity_bytes:
                data = os.read(self._pipe, _CHUNK_BYTES)
                if not data:
                    break
                self._received += data
        if len(self._received) == size:
            return []
        *lines, self._received = self._received.split(b"\n")
        if len(self._received) > select.PIPE_BUF:  # nothing of ours
            self._received.clear()
        whole = (self._joined(line) if line.startswith(_PART) else line for line in lines if line)
        return messages_in([line for line in whole if line])

    def _joined(self, part: bytearray) -> bytes | None:
        """Return a message whose last part has come."""
        who, _, rest = bytes(part[len(_PART) :]).partition(b" ")
        left, _, piece = rest.partition(b" ")
        self._parts_bytes += len(piece)
        if self._parts_bytes > _MAX_PARTS_BYTES:
            self._parts.clear()
            self._parts_bytes = 0
        pieces = self._parts.setdefault(who, [])
        pieces.append(piece)
        if left != b"0":
            return None
        message = b"".join(self._parts.pop(who))
        self._parts_bytes -= len(message)
        return message

    def close(self) -> None:
        """Close this end."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)


def _capacity_of(pipe: int) -> int:
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    return _USUAL_PIPE_BYTES
