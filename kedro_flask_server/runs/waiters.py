"""The requests that wait for runs, and their wake-up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.model.run import Run


class Waiter:
    """A request that waits for a run."""

    def __init__(self, waiters: Waiters) -> None:
        """Create a waiter without a run."""
        self._waiters = waiters
        self._run_ids: list[str] = []
        self._has_news = threading.Event()
        self.is_unrecordable = False
        """Whether the run has ended but its end cannot be stored, so that waiting is useless."""
        self.ended: Run | None = None
        """The run as stored, if it has ended here."""

    def attach(self, run_id: str) -> None:
        """Attach a run. Of several ids that were tried, one is the run's."""
        self._run_ids.append(run_id)
        self._waiters.add(run_id, self)

    def detach(self) -> None:
        """Detach from the runs."""
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
        """Wake the request, as for `Waiters.wake`."""
        self.ended = ended or self.ended
        self.is_unrecordable = is_unrecordable
        self._has_news.set()


class Waiters:
    """All waiting requests of a server, by run. Thread-safe."""

    def __init__(self) -> None:
        """Begin without waiters."""
        self._lock = threading.Lock()
        self._waiters: dict[str, list[Waiter]] = {}

    @contextmanager
    def waiter(self, run_id: str | None = None) -> Iterator[Waiter]:
        """Yield a waiter, attached to a run if one is given."""
        waiter = Waiter(self)
        if run_id is not None:
            waiter.attach(run_id)
        try:
            yield waiter
        finally:
            waiter.detach()

    def add(self, run_id: str, waiter: Waiter) -> None:
        """Add a waiter of a run."""
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
        """The runs that requests wait for."""
        with self._lock:
            return set(self._waiters)

    def wake(self, run_id: str, *, ended: Run | None = None, is_unrecordable: bool = False) -> None:
        """Wake the waiters of a run.

        Args:
            run_id: The run.
            ended: The run, if it has ended here.
            is_unrecordable: Whether it has ended but its end cannot be stored.
        """
        with self._lock:
            waiters = list(self._waiters.get(run_id, ()))
        for waiter in waiters:
            waiter.wake(ended=ended, is_unrecordable=is_unrecordable)

    def wake_all(self) -> None:
        """Wake all waiters."""
        for run_id in self.run_ids:
            self.wake(run_id)
