"""How many bytes connections hold together, of what comes in and of what goes out."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import suppress
from typing import Protocol

# glibc's mallopt(3): what is larger than a threshold is mapped, and given back when it is freed;
# without these calls, the thresholds grow with the first large body, and each thread has a heap.
_MALLOPT = {"M_MMAP_THRESHOLD": (-3, 128 * 1024), "M_TRIM_THRESHOLD": (-1, 128 * 1024)}
_M_ARENA_MAX = (-8, 2)


def prepare_memory() -> None:
    """Have this process keep little of the memory that it frees (glibc)."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, another system
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (*_MALLOPT.values(), _M_ARENA_MAX):
            mallopt(parameter, value)


def give_memory_back() -> None:
    """Give the system back what is free in the heaps (glibc's malloc_trim(3)); it takes 1 ms."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Room:
    """A number of bytes that is shared."""

    def __init__(self, size: int) -> None:
        """Begin with none taken.

        Args:
            size: How many bytes there are.
        """
        self._left = size
        self._lock = threading.Lock()

    def acquire(self, size: int) -> bool:
        """Take bytes, if as many are left.

        Returns:
            Whether they were.
        """
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def release(self, size: int) -> None:
        """Leave bytes to others."""
        with self._lock:
            self._left += size


class Sender(Protocol):
    """A connection with an answer that its client has not taken."""

    taken_at: float
    """When its client has taken something last, by the monotonic clock."""

    def cut_off(self) -> None:
        """Close it soon."""


class Unsent:
    """The bytes of all answers that were not taken yet.

    Where there are too many, the connection is cut off which has held most for longest: a client
    that reads is never that.
    """

    def __init__(self, limit: int) -> None:
        """Begin with none.

        Args:
            limit: How many bytes there may be, beside those of one answer.
        """
        self._limit = limit
        self._lock = threading.Lock()
        self._sizes: dict[Sender, int] = {}
        self._total = 0

    def record(self, sender: Sender, size: int) -> None:
        """Take down how many bytes a connection holds now."""
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
