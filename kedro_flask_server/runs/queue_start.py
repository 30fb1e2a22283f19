"""Puts this server's limits in force when it starts, and says what that changes."""

from __future__ import annotations

import logging

from kedro_flask_server.config.settings import ServerConfig, keeps_runs_apart, queue_limits
from kedro_flask_server.store import RunStore

logger = logging.getLogger(__name__)


class QueueStart:
    """The part of a server's start that concerns the queue."""

    def __init__(self, store: RunStore, config: ServerConfig) -> None:
        """Prepare.

        Args:
            store: Has the queue.
            config: ``concurrency``, ``pools`` and ``dataset_conflicts``.
        """
        self._store = store
        self._limits = queue_limits(config)
        self._has_locks = keeps_runs_apart(config)
        self._is_done = False

    def apply(self) -> None:
        """Put the limits in force for all servers of the queue; log what deserves a look.

        Later, in a store that was replaced or has taken this server for dead, they replace none.

        Raises:
            StoreUnavailableError: If that is not possible now.
        """
        changes = self._store.queue_control.set_limits(self._limits, replaces=not self._is_done)
        self._is_done = True
        for change in changes:
            logger.warning("The limits of the queue have changed, for all its servers: %s", change)
        state = self._store.queue_control.state()
        paused = ["all pipelines"] if state.is_paused else state.paused_pipelines
        if paused:
            logger.warning("Queued runs are paused: %s", ", ".join(paused))
        if self._has_locks and self._store.servers.have_no_locks():
            logger.warning(
                "A server of an older version uses this store: until it has stopped, its runs do "
                "not keep out of the way of others (setting dataset_conflicts)"
            )
