"""Who waits for the end of which run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """One request's wait for one run."""

    def __init__(self) -> None:
        """Begin to wait."""
        self._is_over = threading.Event()
        self.is_in_vain = False
        """Whether the run has ended, and its end cannot be stored: it is no use to wait."""

    def wait(self, timeout_s: float) -> None:
        """Wait until there is something to see.

        Args:
            timeout_s: How many seconds to wait at most.
        """
        self._is_over.wait(timeout_s)
        self._is_over.clear()

    def end(self, *, is_in_vain: bool) -> None:
        """Wake who waits."""
        self.is_in_vain = is_in_vain
        self._is_over.set()


class Watches:
    """All the waits of a server's requests."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._watches: dict[str, list[Watch]] = {}

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Watch]:
        """Return a watch of a run."""
        watch = Watch()
        with self._lock:
            self._watches.setdefault(run_id, []).append(watch)
        try:
            yield watch
        finally:
            with self._lock:
                watches = self._watches[run_id]
                watches.remove(watch)
                if not watches:
                    del self._watches[run_id]

    @property
    def run_ids(self) -> set[str]:
        """The runs that are waited for."""
        with self._lock:
            return set(self._watches)

    def wake(self, run_id: str, *, is_in_vain: bool = False) -> None:
        """Wake who waits for a run.

        Args:
            run_id: The run.
            is_in_vain: Whether it has ended, and its end cannot be stored.
        """
        with self._lock:
            watches = list(self._watches.get(run_id, ()))
        for watch in watches:
            watch.end(is_in_vain=is_in_vain)

    def wake_all(self) -> None:
        """Wake everybody who waits."""
        for run_id in self.run_ids:
            self.wake(run_id)
