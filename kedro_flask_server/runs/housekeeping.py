"""Does from time to time what nobody asks for: leases, the dead, cancelled runs, old runs."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Protocol

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.model.run_id import time_of
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import RunStore

logger = logging.getLogger(__name__)

_TICK_S = 0.25
_REAP_EVERY_S = 1.0
_TIDY_EVERY_S = 1.0
_FORGET_EVERY_S = 60.0
_FORGET_SECRETS_EVERY_S = 10.0


class MaintenanceTask(Protocol):
    """What somebody has to do from time to time; it may raise `StoreUnavailableError`."""

    def flush(self) -> None:
        """Store what has come up since the last time."""

    def purge(self, before: datetime) -> None:
        """Delete what is older than a time."""


class Housekeeper:
    """A thread that keeps a server's side of the store in order."""

    def __init__(
        self,
        store: RunStore,
        lease: ServerLease,
        dispatcher: Dispatcher,
        waiters: Waiters,
        config: ServerConfig,
        *,
        maintenance_tasks: Sequence[MaintenanceTask] = (),
    ) -> None:
        """Prepare; `start` begins.

        Args:
            store: The store.
            lease: This server's place in it.
            dispatcher: Has the runs that execute here.
            waiters: Who waits for runs.
            config: ``keep_runs``, ``keep_days`` and ``idempotency_hours``.
            maintenance_tasks: What others have to do from time to time.
        """
        self._store = store
        self._lease = lease
        self._dispatcher = dispatcher
        self._waiters = waiters
        self._config = config
        self._maintenance_tasks = maintenance_tasks
        self._stopped = threading.Event()
        self._reap_at = 0.0
        self._tidy_at = 0.0
        self._forget_at = 0.0
        self._forget_secrets_at = 0.0
        self._thread = BackgroundThread(self._work, name="kedro-housekeeper")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End, when what is under way is done."""
        self._stopped.set()
        self._thread.join()
        with suppress(StoreUnavailableError):
            self._flush_maintenance_tasks()

    def _work(self) -> None:
        while not self._stopped.wait(_TICK_S):
            try:
                self._dispatcher.stop_overdue()
                self._dispatcher.record_again()
                self._lease.renew_if_due()
                self._tell_of_changes_elsewhere()
                self._flush_maintenance_tasks()
                self._reap()
                self._tidy()
                self._forget()
                self._forget_secrets()
            except StoreUnavailableError as error:
                self._lease.record_failure(error)
            except ServerSettingsError as error:
                self._lease.record_failure(StoreUnavailableError(str(error)))
            except Exception:  # without this thread the lease would end
                logger.exception("The store of the runs could not be kept in order")

    def _tell_of_changes_elsewhere(self) -> None:
        """Pass on what other servers have done: cancelled runs of ours, ended awaited ones."""
        executing = self._dispatcher.run_ids
        server_id = self._lease.server_id
        if executing and server_id is not None:
            for run_id in self._store.cancel_requests(server_id):
                self._dispatcher.cancel(run_id)
        for run_id in self._store.ended_among(self._waiters.run_ids - executing):
            self._waiters.wake(run_id)

    def _flush_maintenance_tasks(self) -> None:
        for task in self._maintenance_tasks:
            task.flush()

    def _reap(self) -> None:
        now = time.monotonic()
        if now >= self._reap_at:
            self._reap_at = now + _REAP_EVERY_S
            self._lease.reap_dead_servers()

    def _tidy(self) -> None:
        now = time.monotonic()
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_EVERY_S
            self._store.tidy()

    def _forget(self) -> None:
        now = time.monotonic()
        if now < self._forget_at:
            return
        self._forget_at = now + _FORGET_EVERY_S
        try:
            has_more = self._store.purge(
                keep_runs=self._config.keep_runs,
                keep_days=self._config.keep_days,
                key_hours=self._config.idempotency_hours,
            )
            for task in self._maintenance_tasks:
                task.purge(datetime.now(timezone.utc) - timedelta(days=self._config.keep_days))
        except StoreUnavailableError as error:
            logger.warning("Old runs could not be deleted: %s", error.reason)
            return
        if has_more:
            self._forget_at = now

    def _forget_secrets(self) -> None:
        """Forget credentials that were learnt before all runs that have not ended."""
        now = time.monotonic()
        if now < self._forget_secrets_at or not SECRETS.has_many():
            return
        self._forget_secrets_at = now + _FORGET_SECRETS_EVERY_S
        oldest = self._store.oldest_active()
        SECRETS.forget(before=math.inf if oldest is None else time_of(oldest).timestamp())
