"""Answers what runs ask about their data while they start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import TypeVar

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.data_access import Locks
from kedro_flask_server.model.run import Run
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.runs.access_planner import AccessPlanner
from kedro_flask_server.store import RunStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long a run waits for the store, which it needs to know what others are writing.
_PATIENCE_S = 30.0
_PAUSE_S = 0.5


class RunDataService:
    """Makes the `RunData` of runs that this server executes."""

    def __init__(
        self,
        store: RunStore,
        planner: AccessPlanner,
        config: ServerConfig,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare.

        Args:
            store: Has the locks and the statuses of runs.
            planner: Is told what runs have found.
            config: ``skip_failed_versions``.
            sleep: Waits for some seconds.
        """
        self._store = store
        self._planner = planner
        self._skips_failed_versions = config.skip_failed_versions
        self._sleep = sleep

    def of(self, run: Run, server_id: str) -> RunData:
        """Return the data of a run that this server has claimed."""
        return RunData(
            is_checked=self._planner.has_locks(run.request),
            digest=run.locks_digest,
            skips_failed_versions=self._skips_failed_versions,
            acquire=partial(self._acquire, run, server_id),
            executing=partial(self._executing, run.run_id),
            statuses=partial(self._statuses, run),
            warn=partial(self._warn, run.run_id),
        )

    def of_call(self, folder: str, *, tells_failures_alone: bool) -> RunData:
        """Return the data of a call of a served pipeline, which has no locks and no row.

        Args:
            folder: The folder of what it returns.
            tells_failures_alone: Whether nothing is told of it unless it fails.
        """
        now = datetime.now(timezone.utc)
        return RunData(
            skips_failed_versions=self._skips_failed_versions,
            executing=lambda: self._patiently(self._store.executing),
            statuses=lambda versions: self._patiently(lambda: self._store.statuses(versions, now)),
            warn=logger.warning,
            folder=folder,
            tells_failures_alone=tells_failures_alone,
        )

    def _acquire(self, run: Run, server_id: str, locks: Locks) -> bool:
        self._planner.learn(run.request, locks)
        return self._patiently(lambda: self._store.queue.acquire(run, server_id, locks))

    def _executing(self, run_id: str) -> list[str]:
        found = self._patiently(self._store.executing)
        return [each for each in found if each != run_id]

    def _statuses(self, run: Run, versions: Sequence[str]) -> Mapping[str, str]:
        started_at = run.started_at or run.created_at
        return self._patiently(lambda: self._store.statuses(versions, started_at))

    def _warn(self, run_id: str, text: str) -> None:
        logger.warning("Run %s: %s", run_id, text)
        self._patiently(lambda: self._store.add_warning(run_id, text))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Return what the store says, as soon as it can be reached.

        Raises:
            StoreUnavailableError: If that takes too long.
        """
        ends_at = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return ask()
            except StoreUnavailableError:
                if time.monotonic() > ends_at:
                    raise
                self._sleep(_PAUSE_S)
