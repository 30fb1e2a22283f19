"""Sends responses, bounded in bytes and time if the client reads slowly."""

from __future__ import annotations

import socket
import time
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected, HTTPChannel

from kedro_flask_server.serving.limits import Limits

AHEAD_BYTES = 1_048_576
"""How far a response in several pieces may be ahead of its reader before its thread waits."""

# The slowest reading allowed over a whole response, in bytes a second.
_LEAST_RATE = 1024

BEGINNING = b"HTTP/1."
"""The beginning of every response. Sent early, it shows (by a reset) whether the client is gone."""


class Piece:
    """Bytes of a response, in the form of waitress' buffers."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)
        self.held = len(data)

    def __len__(self) -> int:
        return len(self._left)

    def get(self, size: int) -> memoryview:
        """Return up to so many of the remaining bytes."""
        return self._left[:size]

    def skip(self, size: int) -> None:
        """Remove bytes that were sent."""
        self._left = self._left[size:]

    def close(self) -> None:
        """Remove all bytes."""
        self._left = memoryview(b"")


# Only the reading thread uses it.
_WASTE = bytearray(262_144)


class SendingChannel(HTTPChannel):
    """The sending half of a connection; overrides waitress, except for the methods of `Sender`.

    One thread sends what is buffered; other threads, which execute requests, write responses.
    """

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        """Begin with nothing to send.

        Args:
            args: Those of waitress.
            limits: The limits shared with other connections.
            options: Those of waitress.
        """
        self._limits = limits
        self._held = 0
        super().__init__(*args, **options)
        self.outbufs: list[Any] = []
        self._has_begun = False  # whether the current response has begun
        self._is_early = False  # whether its first bytes were sent early
        self._unsent_since = self.taken_at = time.monotonic()
        self._taken_bytes = 0
        self._lingers_until: float | None = None
        self._heard_at = self.taken_at
        self._thrown_away = 0

    def begin_answer(self) -> None:
        """Begin another response."""
        self._has_begun = self._is_early = False

    def send_beginning(self) -> None:
        """Send the first bytes of a response that has not begun."""
        with self.outbuf_lock:
            if not self._has_begun and not self._is_early and self.connected:
                self._is_early = True
                self._put(Piece(BEGINNING))

    def send_now(self, data: bytes) -> None:
        """Send data that is not part of a response."""
        with self.outbuf_lock:
            self._put(Piece(data))

    def is_send_overdue(self, now: float) -> bool:
        """Return whether the client reads its response too slowly."""
        timeout_s = self._limits.send_timeout_s
        slowest_s = timeout_s + self._taken_bytes / _LEAST_RATE
        return now - self.taken_at > timeout_s or now - self._unsent_since > slowest_s

    def on_all_sent(self) -> None:
        """Called when everything is sent."""

    def write_soon(self, data: Any) -> int:
        """Buffer bytes of a response, and send what the socket accepts."""
        size = len(data)
        if not self.connected:
            raise ClientDisconnected
        if not size:
            return 0
        with self.outbuf_lock:
            self._wait_for_reader()
            if not self.connected:
                raise ClientDisconnected
            if isinstance(data, ReadOnlyFileBasedBuffer):
                self._put(data)
            elif self._is_early and not self._has_begun:
                self._put(Piece(data[len(BEGINNING) :]))
            else:
                self._put(Piece(data))
            self._has_begun = True
        return size

    def _put(self, piece: Any) -> None:
        """Send what the socket accepts, and leave the rest to the thread of all connections."""
        if not self.total_outbufs_len:
            self._unsent_since = self.taken_at = time.monotonic()
            self._taken_bytes = 0
        self.outbufs.append(piece)
        self.total_outbufs_len += len(piece)
        self._held += getattr(piece, "held", 0)
        self._flush_exception(self._flush_some, do_close=False)
        if self.total_outbufs_len:
            self.server.pull_trigger()

    def _wait_for_reader(self) -> None:
        """Wait, with the lock held, until a response in several pieces is not too far ahead."""
        if self.total_outbufs_len <= AHEAD_BYTES:
            return
        if not self._limits.writers.acquire(blocking=False):
            self.cut_off()
            raise ClientDisconnected
        try:
            while self.connected and self.total_outbufs_len > AHEAD_BYTES:
                self.server.pull_trigger()
                self.outbuf_lock.wait(1)
        finally:
            self._limits.writers.release()

    def _flush_outbufs_below_high_watermark(self) -> None:
        pass  # see `_wait_for_reader`, and `is_taken_care_of`

    def _flush_some(self, do_close: bool = True) -> bool:
        taken = 0
        while self.outbufs:
            piece = self.outbufs[0]
            sent = self.send(piece.get(self.sendbuf_len), do_close=do_close)
            if not sent:
                break
            taken += sent
            piece.skip(sent)
            self.total_outbufs_len -= sent
            if not len(piece):
                self.outbufs.pop(0)
                self._held -= getattr(piece, "held", 0)
                piece.close()
        if taken:
            self.last_activity = time.time()
            self.taken_at = time.monotonic()
            self._taken_bytes += taken
        if not self.total_outbufs_len:
            self.on_all_sent()
        self._limits.unsent.record(self, 0 if self.will_close else self._held)
        return taken > 0

    def cut_off(self) -> None:
        """Close the connection soon, whatever is under way."""
        self.will_close = True
        self.server.pull_trigger()

    @property
    def lingers(self) -> bool:
        """Whether everything is sent, and the client should close the connection."""
        return self._lingers_until is not None

    def is_linger_overdue(self, now: float) -> bool:
        """Return whether the client has not closed the connection in time."""
        is_over = self._lingers_until is not None and now > self._lingers_until
        return is_over or now - self._heard_at > self._limits.linger.silent_s

    def linger(self) -> None:
        """Shut down the sending direction, and wait for the client to close."""
        self.close_when_flushed = False
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.will_close = True
        self._heard_at = time.monotonic()
        self._lingers_until = self._heard_at + self._limits.linger.longest_s

    def throw_away(self) -> None:
        """Read and drop what a client still sends, within bounds."""
        try:
            size = self.socket.recv_into(_WASTE)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        self._heard_at = time.monotonic()
        self._thrown_away += size
        if not size or self._thrown_away > self._limits.linger.most_bytes:
            self.handle_close()

    def handle_close(self) -> None:
        """Close the connection, and release its resources."""
        super().handle_close()
        self.outbufs = []
        self._held = 0
        self._limits.unsent.record(self, 0)
