"""Who waits for the end of which run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kedro_flask_server.model.run import Run


class Watch:
    """One request's wait for one run."""

    def __init__(self, watches: Watches) -> None:
        """Begin to wait, for none as yet."""
        self._watches = watches
        self._run_ids: list[str] = []
        self._is_over = threading.Event()
        self.is_in_vain = False
        """Whether the run has ended, and its end cannot be stored: it is no use to wait."""
        self.ended: Run | None = None
        """The run as it is stored, where it has ended here."""

    def attach(self, run_id: str) -> None:
        """Wait for a run. Of several ids that were tried one is the run's."""
        self._run_ids.append(run_id)
        self._watches.add(run_id, self)

    def detach(self) -> None:
        """Wait no more."""
        for run_id in self._run_ids:
            self._watches.remove(run_id, self)

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

    def end(self, *, ended: Run | None, is_in_vain: bool) -> None:
        """Wake who waits."""
        self.ended = ended or self.ended
        self.is_in_vain = is_in_vain
        self._is_over.set()


class Watches:
    """All the waits of a server's requests."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._watches: dict[str, list[Watch]] = {}

    @contextmanager
    def watch(self, run_id: str | None = None) -> Iterator[Watch]:
        """Return a watch of a run; of none, as yet, where that is not known."""
        watch = Watch(self)
        if run_id is not None:
            watch.attach(run_id)
        try:
            yield watch
        finally:
            watch.detach()

    def add(self, run_id: str, watch: Watch) -> None:
        """Have a watch told of a run, until it is removed."""
        with self._lock:
            self._watches.setdefault(run_id, []).append(watch)

    def remove(self, run_id: str, watch: Watch) -> None:
        """Have a watch told no more of a run."""
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

    def wake(self, run_id: str, *, ended: Run | None = None, is_in_vain: bool = False) -> None:
        """Wake who waits for a run.

        Args:
            run_id: The run.
            ended: The run, where it has ended here.
            is_in_vain: Whether it has ended, and its end cannot be stored.
        """
        with self._lock:
            watches = list(self._watches.get(run_id, ()))
        for watch in watches:
            watch.end(ended=ended, is_in_vain=is_in_vain)

    def wake_all(self) -> None:
        """Wake everybody who waits."""
        for run_id in self.run_ids:
            self.wake(run_id)
