"""Periodic maintenance: renews the lease, reaps dead servers, delivers cancellations, purges."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Protocol

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.model.run_id import time_of
from kedro_flask_server.redaction import SECRETS
from kedro_flask_server.runs.completion import Completion
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.executions import Executions
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import RunStore

logger = logging.getLogger(__name__)

_TICK_S = 0.25
_END_OVERDUE_EVERY_S = 1.0
_REAP_EVERY_S = 1.0
_TIDY_EVERY_S = 1.0
_PURGE_EVERY_S = 60.0
_FORGET_SECRETS_EVERY_S = 10.0


class MaintenanceTask(Protocol):
    """Periodic work of another part; it may raise `StoreUnavailableError`."""

    def flush(self) -> None:
        """Store what is pending."""

    def purge(self, before: datetime) -> None:
        """Delete records before a time."""


class Housekeeper:
    """The thread that does a server's periodic maintenance."""

    def __init__(
        self,
        store: RunStore,
        config: ServerConfig,
        *,
        lease: ServerLease,
        dispatcher: Dispatcher,
        executions: Executions,
        completion: Completion,
        waiters: Waiters,
        tasks: Sequence[MaintenanceTask] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            store: The store.
            config: ``keep_runs``, ``keep_days`` and ``idempotency_hours``.
            lease: The lease to renew.
            dispatcher: Stops runs.
            executions: The runs that execute here.
            completion: Retries to store their ends.
            waiters: The requests that wait for runs.
            tasks: The periodic work of other parts.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._store = store
        self._lease = lease
        self._dispatcher = dispatcher
        self._executions = executions
        self._completion = completion
        self._waiters = waiters
        self._config = config
        self._tasks = tasks
        self._clock = clock
        self._stopped = threading.Event()
        self._due_at: dict[Callable[[], object], float] = {}
        self._thread = BackgroundThread(self._work, name="kedro-housekeeper")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether its thread is alive."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop after the current work."""
        self._stopped.set()
        self._thread.join()
        with suppress(StoreUnavailableError):
            self._flush()

    def _work(self) -> None:
        while not self._stopped.wait(_TICK_S):
            try:
                self._dispatcher.stop_overdue()
                self._every(_END_OVERDUE_EVERY_S, self._end_overdue)
                self._completion.retry()
                self._lease.renew_if_due()
                self._deliver_changes_of_others()
                self._flush()
                self._every(_REAP_EVERY_S, self._lease.reap_dead_servers)
                self._every(_TIDY_EVERY_S, self._store.tidy)
                self._every(_PURGE_EVERY_S, self._purge)
                self._every(_FORGET_SECRETS_EVERY_S, self._forget_secrets)
            except StoreUnavailableError as error:
                self._lease.record_failure(error)
            except ServerSettingsError as error:
                self._lease.record_failure(StoreUnavailableError(str(error)))
            except Exception:  # without this thread the lease would end
                logger.exception("The store of the runs could not be kept in order")

    def _every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do work when it is due; where it returns True, there is more of it now."""
        now = self._clock()
        if now >= self._due_at.get(work, 0.0):
            self._due_at[work] = now + seconds
            if work() is True:
                self._due_at[work] = now

    def _deliver_changes_of_others(self) -> None:
        """Stop runs that other servers have cancelled; wake requests for runs that ended there."""
        executing = self._executions.executing_ids
        server_id = self._lease.server_id
        if executing and server_id is not None:
            for run_id in self._store.cancel_requests(server_id):
                self._dispatcher.cancel(run_id)
        for run_id in self._store.ended_among(self._waiters.run_ids - executing):
            self._waiters.wake(run_id)

    def _end_overdue(self) -> None:
        """End the runs that were queued for too long, and delays, on whatever server they began."""
        ended = self._store.queue_control.end_overdue()
        for run_id in ended:
            logger.error("Run %s failed: it was queued for too long", run_id)
            self._waiters.wake(run_id)
        if self._store.queue_control.end_delays() or ended:
            self._dispatcher.wake()

    def _flush(self) -> None:
        for task in self._tasks:
            task.flush()

    def _purge(self) -> bool:
        """Delete old runs, and return whether there are more."""
        try:
            has_more = self._store.purge(
                keep_runs=self._config.keep_runs,
                keep_days=self._config.keep_days,
                key_hours=self._config.idempotency_hours,
            )
            for task in self._tasks:
                task.purge(datetime.now(timezone.utc) - timedelta(days=self._config.keep_days))
        except StoreUnavailableError as error:
            logger.warning("Old runs could not be deleted: %s", error.reason)
            return False
        return has_more

    def _forget_secrets(self) -> None:
        """Forget credentials that were learnt before all runs that have not ended."""
        if SECRETS.has_many():
            oldest = self._store.oldest_active()
            SECRETS.forget(before=math.inf if oldest is None else time_of(oldest).timestamp())
