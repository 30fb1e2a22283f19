"""Snapshots of the project, each made once for as long as it is true."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.model.snapshot import Snapshot

# Each with parameters of its own.
_MAX_SNAPSHOTS = 16


class Snapshots:
    """Describes the project, one caller at a time where nothing is cached."""

    def __init__(
        self, executor: Executor, fingerprint: Callable[[Iterable[str]], str | None]
    ) -> None:
        """Begin with none.

        Args:
            executor: Describes the project.
            fingerprint: Returns, of Python source files, what a snapshot of the project depends
                on; None where that cannot be told.
        """
        self._executor = executor
        self._fingerprint = fingerprint
        self._cache: BoundedCache[str | None, Snapshot] = BoundedCache(_MAX_SNAPSHOTS)
        self._making = threading.Lock()

    def get(self, params: str | None) -> Snapshot | ErrorDetail:
        """Return a snapshot, as `Executor.snapshot` does."""
        cached = self._cached(params)
        if cached is not None:
            return cached
        with self._making:
            cached = self._cached(params)  # another thread may have made it meanwhile
            if cached is not None:
                return cached
            snapshot = self._executor.snapshot(params)
            if isinstance(snapshot, Snapshot) and snapshot.fingerprint is not None:
                self._cache.put(params, snapshot)
            return snapshot

    def _cached(self, params: str | None) -> Snapshot | None:
        cached = self._cache.get(params)
        if cached is None or cached.fingerprint != self._fingerprint(cached.sources):
            return None
        return cached
