"""The requests that wait for a run, and what wakes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.model.run import Run


class Waiter:
    """One request that waits for one run."""

    def __init__(self, waiters: Waiters) -> None:
        """Create one that is attached to no run yet."""
        self._waiters = waiters
        self._run_ids: list[str] = []
        self._has_news = threading.Event()
        self.is_unrecordable = False
        """Whether the run has ended, and its end cannot be stored: there is no use in waiting."""
        self.ended: Run | None = None
        """The run as it is stored, where it has ended here."""

    def attach(self, run_id: str) -> None:
        """Wait for a run. Of several ids that were tried, one is the run's."""
        self._run_ids.append(run_id)
        self._waiters.add(run_id, self)

    def detach(self) -> None:
        """Wait no more."""
        for run_id in self._run_ids:
            self._waiters.remove(run_id, self)

    def wait(self, timeout_s: float) -> bool:
        """Wait for news of the run.

        Args:
            timeout_s: How many seconds to wait at most.

        Returns:
            Whether there are any.
        """
        has_news = self._has_news.wait(timeout_s)
        self._has_news.clear()
        return has_news

    def wake(self, *, ended: Run | None, is_unrecordable: bool) -> None:
        """Wake the request, as `Waiters.wake` says."""
        self.ended = ended or self.ended
        self.is_unrecordable = is_unrecordable
        self._has_news.set()


class Waiters:
    """All requests of a server that wait, by run. Thread-safe."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._waiters: dict[str, list[Waiter]] = {}

    @contextmanager
    def waiter(self, run_id: str | None = None) -> Iterator[Waiter]:
        """Return a waiter for a run, or for one that is still to be attached."""
        waiter = Waiter(self)
        if run_id is not None:
            waiter.attach(run_id)
        try:
            yield waiter
        finally:
            waiter.detach()

    def add(self, run_id: str, waiter: Waiter) -> None:
        """Wake a waiter with the news of a run, until it is removed."""
        with self._lock:
            self._waiters.setdefault(run_id, []).append(waiter)

    def remove(self, run_id: str, waiter: Waiter) -> None:
        """Remove a waiter of a run."""
        with self._lock:
            waiters = self._waiters[run_id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[run_id]

    @property
    def run_ids(self) -> set[str]:
        """The runs that are waited for."""
        with self._lock:
            return set(self._waiters)

    def wake(self, run_id: str, *, ended: Run | None = None, is_unrecordable: bool = False) -> None:
        """Wake the waiters of a run.

        Args:
            run_id: The run.
            ended: The run, where it has ended here.
            is_unrecordable: Whether it has ended, and its end cannot be stored.
        """
        with self._lock:
            waiters = list(self._waiters.get(run_id, ()))
        for waiter in waiters:
            waiter.wake(ended=ended, is_unrecordable=is_unrecordable)

    def wake_all(self) -> None:
        """Wake all waiters."""
        for run_id in self.run_ids:
            self.wake(run_id)
