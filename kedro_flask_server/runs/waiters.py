"""Who waits for the end of which run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.model.run import Run


class Waiter:
    """One request's wait for one run."""

    def __init__(self, waiters: Waiters) -> None:
        """Begin to wait, for none as yet."""
        self._waiters = waiters
        self._run_ids: list[str] = []
        self._is_over = threading.Event()
        self.is_unrecordable = False
        """Whether the run has ended, and its end cannot be stored: it is no use to wait."""
        self.ended: Run | None = None
        """The run as it is stored, where it has ended here."""

    def attach(self, run_id: str) -> None:
        """Wait for a run. Of several ids that were tried one is the run's."""
        self._run_ids.append(run_id)
        self._waiters.add(run_id, self)

    def detach(self) -> None:
        """Wait no more."""
        for run_id in self._run_ids:
            self._waiters.remove(run_id, self)

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to see.

        Args:
            timeout_s: How many seconds to wait at most.

        Returns:
            Whether there is.
        """
        is_over = self._is_over.wait(timeout_s)
        self._is_over.clear()
        return is_over

    def end(self, *, ended: Run | None, is_unrecordable: bool) -> None:
        """Wake who waits."""
        self.ended = ended or self.ended
        self.is_unrecordable = is_unrecordable
        self._is_over.set()


class Waiters:
    """All the waits of a server's requests."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._waiters: dict[str, list[Waiter]] = {}

    @contextmanager
    def waiter(self, run_id: str | None = None) -> Iterator[Waiter]:
        """Return a waiter of a run; of none, as yet, where that is not known."""
        waiter = Waiter(self)
        if run_id is not None:
            waiter.attach(run_id)
        try:
            yield waiter
        finally:
            waiter.detach()

    def add(self, run_id: str, waiter: Waiter) -> None:
        """Have a waiter told of a run, until it is removed."""
        with self._lock:
            self._waiters.setdefault(run_id, []).append(waiter)

    def remove(self, run_id: str, waiter: Waiter) -> None:
        """Have a waiter told no more of a run."""
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
        """Wake who waits for a run.

        Args:
            run_id: The run.
            ended: The run, where it has ended here.
            is_unrecordable: Whether it has ended, and its end cannot be stored.
        """
        with self._lock:
            waiters = list(self._waiters.get(run_id, ()))
        for waiter in waiters:
            waiter.end(ended=ended, is_unrecordable=is_unrecordable)

    def wake_all(self) -> None:
        """Wake everybody who waits."""
        for run_id in self.run_ids:
            self.wake(run_id)
