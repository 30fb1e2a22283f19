"""Snapshots of the project, cached while its sources do not change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.run import ErrorDetail
from kedro_flask_server.model.snapshot import Snapshot

# One for each set of parameters.
_MAX_SNAPSHOTS = 16


class SnapshotCache:
    """Describes the project, one caller at a time unless cached."""

    def __init__(
        self, executor: Executor, fingerprint: Callable[[Iterable[str]], str | None]
    ) -> None:
        """Begin with an empty cache.

        Args:
            executor: Describes the project.
            fingerprint: Returns the fingerprint of a snapshot's sources, from its Python source
                files; None where there is none.
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
