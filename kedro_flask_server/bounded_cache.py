"""What was found last, kept within a bound."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """A mapping that holds the entries which were put into it last. From any thread."""

    def __init__(self, most: int) -> None:
        """Begin with none.

        Args:
            most: How many entries are held.
        """
        self._most = most
        self._lock = threading.Lock()
        self._entries: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """Return what is held for a key; None where nothing is."""
        return self._entries.get(key)

    def items(self) -> list[tuple[Key, Value]]:
        """Return all that is held."""
        with self._lock:
            return [*self._entries.items()]

    def put(self, key: Key, value: Value) -> None:
        """Hold something for a key, and let go of the oldest if there is too much."""
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = value
            if len(self._entries) > self._most:
                del self._entries[next(iter(self._entries))]

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._entries.clear()
