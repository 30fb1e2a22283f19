"""The lifecycle of everything that executes runs, and its health."""

from __future__ import annotations

import atexit
import logging
import threading
import time

from kedro_flask_server.config.settings import ServerConfig, unknown_pipelines
from kedro_flask_server.errors import ServerSettingsError, StoreUnavailableError
from kedro_flask_server.executors import Executor
from kedro_flask_server.runs.completion import Completion
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.executions import Executions
from kedro_flask_server.runs.housekeeping import Housekeeper
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.served_pipelines import ServedPipelines
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import RunStore

logger = logging.getLogger(__name__)


class Lifecycle:
    """Starts the threads and processes of runs on first use, and stops them."""

    def __init__(
        self,
        store: RunStore,
        executor: Executor,
        config: ServerConfig,
        *,
        lease: ServerLease,
        executions: Executions,
        completion: Completion,
        dispatcher: Dispatcher,
        recorder: Recorder,
        housekeeper: Housekeeper,
        waiters: Waiters,
        event_waiters: Waiters,
        served: ServedPipelines,
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            store: Stores the runs.
            executor: Executes them.
            config: The settings of the server.
            lease: Registers this server.
            executions: The runs that execute here.
            completion: Stores their ends.
            dispatcher: Claims queued runs.
            recorder: Stores their events.
            housekeeper: Does the periodic maintenance.
            waiters: The requests that wait for the end of runs.
            event_waiters: The requests that wait for events of runs.
            served: The pipelines that are served.
        """
        self._served = served
        self._store = store
        self._executor = executor
        self._config = config
        self._lease = lease
        self._executions = executions
        self._completion = completion
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._housekeeper = housekeeper
        self._waiters = waiters
        self._event_waiters = event_waiters
        self._lock = threading.Lock()
        self._is_started = False
        self._is_about_to_stop = False
        self.is_stopping = False
        """Whether no more runs are admitted."""
        self.is_stopped = False
        """Whether all runs and threads here have ended."""

    def start(self) -> None:
        """Open the store and begin to execute queued runs; later calls do nothing.

        A store that cannot be reached now is retried, and `faults` reports it.

        Raises:
            ServerSettingsError: If the store cannot be used at all.
        """
        if self._is_started:
            return
        with self._lock:
            if self._is_started or self.is_stopping:
                return
            try:
                self._lease.register()
            except StoreUnavailableError as error:
                self._lease.record_failure(error)
            self._dispatcher.start()
            self._recorder.start()
            self._housekeeper.start()
            self._served.start()
            self._is_started = True
            # For servers that do not call `drain`; by then their runs have ended.
            atexit.register(self.drain, 0)

    def server_id(self) -> str:
        """Start, if that has not been done, and return the id of this server in the store.

        Raises:
            ServerSettingsError: If the store cannot be used at all.
            StoreUnavailableError: If it has not been reached yet.
        """
        self.start()
        server_id = self._lease.server_id
        if server_id is None and not self.is_stopping:
            raise StoreUnavailableError(self._lease.fault or "it is being opened")
        return server_id or ""

    def faults(self) -> dict[str, str]:
        """Return why no runs can be admitted: fault by component; empty if they can."""
        if self._is_about_to_stop or self.is_stopping:
            return {"draining": "The server is stopping."}
        try:
            self.start()
        except ServerSettingsError as error:
            return {"store": str(error)}
        if self._lease.fault is not None:
            return {"store": self._lease.fault}
        dead = self.dead_threads()
        if dead:
            names = ", ".join(dead)
            return {
                "threads": "The server does not take up runs any more; start it again. "
                f"What has ended: {names}."
            }
        faults = self._executor.faults()
        wrong = unknown_pipelines(self._config, self._executor.pipelines())
        return {"settings": wrong, **faults} if wrong else faults

    def dead_threads(self) -> list[str]:
        """Return the names of required threads that have ended.

        It uses neither the store nor the network, and does not block.
        """
        if not self._is_started or self.is_stopping:
            return []
        is_alive = {
            "kedro-dispatcher": self._dispatcher.is_alive(),
            "kedro-recorder": self._recorder.is_alive(),
            "kedro-housekeeper": self._housekeeper.is_alive(),
        }
        dead = [name for name, is_at_work in is_alive.items() if not is_at_work]
        return [*dead, *self._executor.dead_threads(), *self._served.dead_threads()]

    def begin_to_stop(self) -> None:
        """Make `faults` report that the server is stopping; it still admits runs."""
        self._is_about_to_stop = True

    def drain(self, timeout_s: float) -> bool:
        """Admit no more runs and let executing ones end, as described for `RunService.drain`.

        Args:
            timeout_s: How many seconds to wait for executing runs.

        Returns:
            Whether every run that had started here came to its own end.
        """
        with self._lock:
            self.is_stopping = True
            if self.is_stopped or not self._is_started:
                self.is_stopped = True
                return True
        ends_at = time.monotonic() + timeout_s
        self._served.stop()
        self._dispatcher.stop()
        self._waiters.wake_all()
        executing = len(self._executions.executing_ids)
        if executing:
            logger.info("Waiting up to %g s for the end of %d runs", timeout_s, executing)
        is_idle = self._executions.wait_until_idle(timeout_s)
        self._served.wait_until_idle(max(0.0, ends_at - time.monotonic()))
        for run_id in self._executions.executing_ids:
            logger.warning("Run %s is cut off: the server stops", run_id)
        self._served.close()
        self._executor.shutdown()
        cut_off = self._dispatcher.give_up()
        self.is_stopped = True
        self._waiters.wake_all()
        self._event_waiters.wake_all()
        self._housekeeper.stop()
        self._recorder.stop()
        try:
            self._completion.retry()
            # A server that must not be found dead has no more ends to store.
            if not cut_off and not self._executions.unrecorded():
                self._lease.unregister()
        except StoreUnavailableError as error:
            self._lease.record_failure(error)
        self._store.close()
        return is_idle
