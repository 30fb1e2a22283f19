"""The pipe that carries the reports of a run from its worker to the server: both ends.

A write of up to ``PIPE_BUF`` bytes is atomic (pipe(7)): threads and forked processes need no lock,
and what was written before a crash is still there after it. A longer message is sent in parts,
which the server joins.

The server reads periodically, because a wake-up per message costs more than the message. So that
writers do not wait, each wakes the server after some kilobytes, or when the pipe is full. Handling
reports competes with the run: a chain of 100 nodes takes 61 ms, not 66, if the server is woken
every 16 KiB instead of every 256.
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

from kedro_flask_server.model.data_exchange import Output
from kedro_flask_server.model.event import OUTPUT, EventType
from kedro_flask_server.model.provenance import Provenance
from kedro_flask_server.model.report import node_of_thread, record_bytes, size_bytes
from kedro_flask_server.workers.interruption import Interruption
from kedro_flask_server.workers.protocol import Message, line_of, messages_in

# Room for a burst of some thousand lines.
_PIPE_BYTES = 1 << 20

# Where the system does not report the size. If it is smaller, writers find the pipe full.
_USUAL_PIPE_BYTES = 1 << 16

_CHUNK_BYTES = 1 << 16

_WAKE_EVERY_BYTES = 1 << 14

# The header of a part names the writer, the message, and the number of parts to come.
_PART = b"+"
_MAX_PART_BYTES = select.PIPE_BUF - 64

# Of a run of which only a failure is told, beside its log, which has a bound of its own.
_MAX_HELD = 100_000

# Limit of incomplete messages, whose writers may have died.
_MAX_PARTS_BYTES = 1 << 27


def open_report_pipe() -> tuple[ReportReader, int]:
    """Return the server's end of a new pipe, and the descriptor of the worker's.

    Raises:
        OSError: If the system refuses another descriptor.
    """
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # the memory of a user's pipes is limited
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ReportReader(reading), writing


class PipeReport:
    """Sends reports to the server, from every thread and every process forked here.

    A report is in the pipe when the call returns, so that a crash does not lose it.
    """

    is_shared = True

    def __init__(self, pipe: int, wake: Callable[[], object]) -> None:
        """Write to a pipe.

        Args:
            pipe: The descriptor of its writing end.
            wake: Makes the server read it.
        """
        os.set_inheritable(pipe, False)
        self._pipe = pipe
        self._wake = wake
        self._wake_every_bytes = min(_WAKE_EVERY_BYTES, _capacity_of(pipe) // 4)
        self._unread_bytes = 0
        self._numbers = count()
        self._room_bytes = 0
        self._dropped = _Dropped()
        self._held: list[Callable[[], bytes]] | None = None
        self._pid = os.getpid()
        self.stop: Interruption | None = None
        """Deferred while a message in parts, or one that has to wait, is incomplete."""
        os.register_at_fork(after_in_child=self._reset_dropped)

    def begin(self, *, max_log_bytes: int, is_held: bool = False) -> None:
        """Begin the report of another run.

        Args:
            max_log_bytes: The size of log to send; the rest is only counted.
            is_held: Whether what happens in the run is held back until `release`.
        """
        self._room_bytes = max_log_bytes
        self._reset_dropped()
        self._held = [] if is_held else None

    def release(self, *, is_wanted: bool) -> None:
        """Send what was held back, or drop it."""
        held, self._held = self._held, None
        if held and is_wanted:
            for line_of_held in held:
                self._send_line(line_of_held())
        elif held is not None and not is_wanted:
            self._reset_dropped()

    def _reset_dropped(self) -> None:
        self._dropped = _Dropped()

    def expect(self, nodes: int) -> None:
        """Report the number of nodes in the run."""
        self._tell(lambda: line_of("expect", {"nodes": nodes}))

    def describe(self, provenance: Provenance) -> None:
        """Report what the run is made of."""
        self._tell(lambda: line_of("provenance", provenance.dump()))

    def link(self, title: str, url: str) -> None:
        """Report a link of the run."""
        self._tell(lambda: line_of("link", {"title": title, "url": url}))

    def put_output(self, dataset: str, output: Output) -> None:
        """Report a dataset that the run has made."""
        self.send("output", {"dataset": dataset, "output": output.dump()})

    def emit(self, kind: EventType, data: dict[str, Any]) -> None:
        """Report an event."""
        body = {"type": kind.value, "time": time.time(), "data": data}
        self._tell(lambda: line_of("event", body))

    def log(self, level: str, logger: str, message: str) -> None:
        """Add to the run's log."""
        node = node_of_thread()
        if self._has_room(record_bytes(level, logger, node), message):
            self._send_records(_record_fields(level, logger, node), json.dumps(message))

    def log_output(self, lines: Sequence[str]) -> None:
        """Add printed lines to the run's log, with one time for all."""
        node = node_of_thread()
        overhead = record_bytes("INFO", OUTPUT, node)
        kept = [json.dumps(line) for line in lines if self._has_room(overhead, line)]
        if kept:
            self._send_records(_record_fields("INFO", OUTPUT, node), ", ".join(kept))

    def _send_records(self, fields: str, messages: str) -> None:
        # As slow through `line_of` as everything else together.
        text = f'\n["log", {{"time": {time.time()!r}, {fields}, "messages": [{messages}]}}]\n'
        self._tell(text.encode)

    def _tell(self, line: Callable[[], bytes]) -> None:
        """Send what happens in the run, or hold it back."""
        if self._held is None or os.getpid() != self._pid:
            self._send_line(line())
        elif len(self._held) < _MAX_HELD:
            self._held.append(line)

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
        """Whether further log records are dropped, so need not be redacted or sent."""
        return self._room_bytes < 0

    def drop(self, lines: int, size: int) -> None:
        """Count dropped log lines; report the count from time to time, as a run may crash."""
        if self._dropped.add(lines, size):
            self.report_dropped()

    def report_dropped(self) -> None:
        """Report how much of the log this process has dropped, if any."""
        found = self._dropped
        if (found.lines or found.size) and self._held is None:
            self.send("left_out", {"by": os.getpid(), "lines": found.lines, "bytes": found.size})

    def send(self, kind: str, body: dict[str, Any]) -> None:
        """Send a message atomically, whatever the number of senders; a closed pipe is ignored."""
        self._send_line(line_of(kind, body))

    def _send_line(self, line: bytes) -> None:
        try:
            if len(line) > select.PIPE_BUF:
                self._write_all(self._parts_of(line))
            else:
                self._write(line)
        except BlockingIOError:
            self._write_all([line])
        except OSError:  # the server is gone, and this process is about to end
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
def _record_fields(level: str, logger: str, node: str | None) -> str:
    return json.dumps({"level": level, "logger": logger, "node": node})[1:-1]


@dataclass(slots=True)
class _Dropped:
    """The counts of what a process has dropped from its run's log."""

    lines: int = 0
    size: int = 0
    _report_at: int = 0
    # Reentrant: a finalizer that runs in here may log.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, lines: int, size: int) -> bool:
        """Add to the counts; return whether to report them, as the size has doubled since."""
        with self._lock:
            self.lines += lines
            self.size += size
            if self.size < self._report_at:
                return False
            self._report_at = 2 * self.size + 1  # lines may be empty
            return True


class ReportReader:
    """The server's end of the pipe. One thread reads."""

    def __init__(self, pipe: int) -> None:
        """Read from a pipe.

        Args:
            pipe: The descriptor of its reading end, which this object owns.
        """
        self._pipe = pipe
        self._capacity_bytes = _capacity_of(pipe)
        self._received = bytearray()
        self._parts: dict[bytes, list[bytes]] = {}
        self._parts_bytes = 0

    def read(self) -> list[Message]:
        """Return the messages sent before the call.

        Lines that are not messages are ignored: a run's code can write to this pipe, too.
        """
        size = len(self._received)
        with suppress(OSError):  # empty or closed
            while len(self._received) - size < self._capacity_bytes:
                data = os.read(self._pipe, _CHUNK_BYTES)
                if not data:
                    break
                self._received += data
        if len(self._received) == size:
            return []
        *lines, self._received = self._received.split(b"\n")
        if len(self._received) > select.PIPE_BUF:  # not written by this package
            self._received.clear()
        whole = (self._joined(line) if line.startswith(_PART) else line for line in lines if line)
        return messages_in([line for line in whole if line])

    def _joined(self, part: bytearray) -> bytes | None:
        """Return a message once its last part has come."""
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
