"""A cache of bounded size."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Holds the entries that were put last: first in, first out. Thread-safe."""

    def __init__(self, most: int) -> None:
        """Create an empty cache.

        Args:
            most: How many entries it holds.
        """
        self._most = most
        self._lock = threading.Lock()
        self._entries: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None."""
        return self._entries.get(key)

    def items(self) -> list[tuple[Key, Value]]:
        """Return all entries."""
        with self._lock:
            return [*self._entries.items()]

    def put(self, key: Key, value: Value) -> None:
        """Set the value of a key; the oldest entry goes where there are too many."""
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = value
            if len(self._entries) > self._most:
                del self._entries[next(iter(self._entries))]

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()
