"""Memory that connections hold together, for incoming and outgoing data."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import suppress
from typing import Protocol

# glibc's mallopt(3): blocks above a threshold are mapped, and returned to the system when freed. By
# default the thresholds grow with the first large body, and each thread has its own arena.
_MALLOPT = {"M_MMAP_THRESHOLD": (-3, 128 * 1024), "M_TRIM_THRESHOLD": (-1, 128 * 1024)}
_M_ARENA_MAX = (-8, 2)


def prepare_memory() -> None:
    """Make this process retain little freed memory (glibc)."""
    with suppress(OSError, AttributeError, TypeError):  # another C library or system
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (*_MALLOPT.values(), _M_ARENA_MAX):
            mallopt(parameter, value)


def give_memory_back() -> None:
    """Return free heap memory to the system (glibc's malloc_trim(3)); takes 1 ms."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Room:
    """A shared budget of bytes."""

    def __init__(self, size: int) -> None:
        """Begin with the whole budget.

        Args:
            size: The budget in bytes.
        """
        self._left = size
        self._lock = threading.Lock()

    def acquire(self, size: int) -> bool:
        """Acquire bytes, if as many are left.

        Returns:
            Whether they were acquired.
        """
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def release(self, size: int) -> None:
        """Release bytes."""
        with self._lock:
            self._left += size


class Sender(Protocol):
    """A connection with a response that its client has not read."""

    taken_at: float
    """When its client has last read something, by the monotonic clock."""

    def cut_off(self) -> None:
        """Close the connection soon."""


class Unsent:
    """The unread bytes of all responses.

    If there are too many, the connection that has held most for longest is cut off, which is never
    one whose client reads.
    """

    def __init__(self, limit: int) -> None:
        """Begin without unread bytes.

        Args:
            limit: The maximum number of bytes, beside those of one response.
        """
        self._limit = limit
        self._lock = threading.Lock()
        self._sizes: dict[Sender, int] = {}
        self._total = 0

    def record(self, sender: Sender, size: int) -> None:
        """Record how many bytes a connection holds now."""
        if not size and sender not in self._sizes:
            return
        with self._lock:
            self._total += size - self._sizes.pop(sender, 0)
            if size:
                self._sizes[sender] = size
            cut_off = self._make_room(sender)
        for each in cut_off:
            each.cut_off()

    def _make_room(self, newest: Sender) -> list[Sender]:
        found: list[Sender] = []
        now = time.monotonic()
        while self._total > self._limit and len(self._sizes) > (newest in self._sizes):
            others = (each for each in self._sizes if each is not newest)
            worst = max(others, key=lambda each: self._sizes[each] * (now - each.taken_at))
            self._total -= self._sizes.pop(worst)
            found.append(worst)
        return found
