"""Who waits for the end of which run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.errors import StoreUnavailableError


class Watch:
    """One request's wait for one run."""

    def __init__(self) -> None:
        """Begin to wait."""
        self._is_over = threading.Event()
        self._fault: StoreUnavailableError | None = None

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to see, and return whether there is.

        Args:
            timeout_s: How many seconds to wait at most.

        Raises:
            StoreUnavailableError: If the run has ended, and its end cannot be stored yet.
        """
        is_over = self._is_over.wait(timeout_s)
        if self._fault is not None:
            raise self._fault
        self._is_over.clear()
        return is_over

    def end(self, fault: StoreUnavailableError | None = None) -> None:
        """Wake who waits."""
        self._fault = fault
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

    def wake(self, run_id: str, fault: StoreUnavailableError | None = None) -> None:
        """Wake who waits for a run.

        Args:
            run_id: The run.
            fault: Why its end, which has come, is not in the store.
        """
        with self._lock:
            watches = list(self._watches.get(run_id, ()))
        for watch in watches:
            watch.end(fault)

    def wake_all(self) -> None:
        """Wake everybody who waits."""
        for run_id in self.run_ids:
            self.wake(run_id)
