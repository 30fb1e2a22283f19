"""The interface to runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kedro_flask_server.config.settings import ServerConfig
from kedro_flask_server.errors import (
    RunEndedError,
    ServerBusyError,
    ServerStoppingError,
    StoreUnavailableError,
    UnknownRunError,
)
from kedro_flask_server.model.run import (
    ANONYMOUS,
    ErrorDetail,
    Run,
    RunRequest,
    RunStatus,
    Submitter,
)
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.runs.admission import Admission
from kedro_flask_server.runs.client_waits import ClientWaits, is_never, monotonic_end
from kedro_flask_server.runs.dispatcher import Dispatcher
from kedro_flask_server.runs.history import RunHistory
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.lifecycle import Lifecycle
from kedro_flask_server.runs.snapshot_cache import SnapshotCache
from kedro_flask_server.runs.waiters import Waiter, Waiters
from kedro_flask_server.store import RunStore


class RunService(RunHistory):
    """Admits runs, has them executed in turn, and returns their state.

    Store and threads start with the first call that needs them. Methods that need the store raise
    `StoreUnavailableError` while it cannot be reached.
    """

    def __init__(
        self,
        store: RunStore,
        config: ServerConfig,
        *,
        lease: ServerLease,
        lifecycle: Lifecycle,
        admission: Admission,
        dispatcher: Dispatcher,
        waiting: ClientWaits,
        waiters: Waiters,
        event_waiters: Waiters,
        snapshots: SnapshotCache,
    ) -> None:
        """Prepare; use `create_run_service`.

        Args:
            store: Stores the runs.
            config: The settings of the server.
            lease: Registers this server.
            lifecycle: The lifecycle of the executor and threads.
            admission: Stores new runs.
            dispatcher: Starts and stops runs.
            waiting: Limits waiting clients.
            waiters: The requests that wait for the end of runs.
            event_waiters: The requests that wait for events of runs.
            snapshots: Describes the project.
        """
        super().__init__(
            store,
            lifecycle=lifecycle,
            waiting=waiting,
            waiters=waiters,
            event_waiters=event_waiters,
        )
        self._config = config
        self._lease = lease
        self._admission = admission
        self._dispatcher = dispatcher
        self._snapshots = snapshots

    def start(self) -> None:
        """Open the store and begin to execute queued runs, as `Lifecycle.start` does.

        Raises:
            ServerSettingsError: If the store cannot be used at all.
        """
        self._lifecycle.start()

    def drain(self, timeout_s: float) -> bool:
        """Admit no more runs and let executing ones end.

        Queued runs stay queued, for the next start or another server; runs without a key that
        clients wait for here are cancelled. Runs that still execute after the timeout are recorded
        as failures, ``ServerStopped``: the process must end then.

        Args:
            timeout_s: How many seconds to wait for executing runs.

        Returns:
            Whether every run that had started here came to its own end.
        """
        return self._lifecycle.drain(timeout_s)

    def begin_to_stop(self) -> None:
        """Make `faults` report that the server is stopping; it still admits runs."""
        self._lifecycle.begin_to_stop()

    def faults(self) -> dict[str, str]:
        """Return why no runs can be admitted: fault by component; empty if they can."""
        return self._lifecycle.faults()

    def dead_threads(self) -> list[str]:
        """Return the names of required threads that have ended."""
        return self._lifecycle.dead_threads()

    def submit(
        self,
        request: RunRequest,
        *,
        key: str | None = None,
        wait_s: float = 0,
        submitter: Submitter = ANONYMOUS,
        is_gone: Callable[[], bool] = is_never,
    ) -> Run:
        """Admit a run, without the need to wait for its end.

        Args:
            request: What to run.
            key: An idempotency key: the same key and request again return the same run.
            wait_s: How many seconds to wait for its end, if a waiting slot is free.
            submitter: The caller who submits it; keys are unique per submitter.
            is_gone: Returns whether the client is gone, which frees its waiting slot.

        Returns:
            The run, stored, as last seen.

        Raises:
            QuotaError: If the submitter has reached a quota.
            ServerBusyError: If the queue is full.
            ServerStoppingError: If the server is stopping.
            KeyReusedError: If the key was used before, with another request.
            KeyInUseError: If a request with the key is being admitted now.
        """
        with self._waiters.waiter() as waiter:
            run = self._admit(request, key, submitter, waiter, is_held=False)
            if wait_s <= 0:
                return run
            with self._waiting.submitter_slot() as is_free:
                if not is_free:
                    return run
                ends_at = monotonic_end(wait_s)
                try:
                    seen = self._waiting.wait_for_admitted(run, waiter, ends_at, is_gone)
                except StoreUnavailableError:  # it is admitted nevertheless
                    return run
        return replace(seen, is_replay=run.is_replay)

    def run(
        self,
        request: RunRequest,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        submitter: Submitter = ANONYMOUS,
        is_gone: Callable[[], bool] = is_never,
    ) -> Run:
        """Admit a run, and wait for its end.

        Without a key, only this client knows the run: if the server stops before it starts, it is
        cancelled.

        Args:
            request: What to run.
            key: As for `submit`.
            timeout_s: How many seconds to wait at most; None for no limit.
            submitter: As for `submit`.
            is_gone: As for `submit`; the run goes on.

        Returns:
            The run as it was last seen. It may not have ended: the time is over, the client gone,
            its end cannot be stored, or another server executes it and this one stops.

        Raises:
            QuotaError: As for `submit`.
            ServerBusyError: If all waiting slots are taken, or the queue is full.
            ServerStoppingError: If the server stops before the run has started.
            KeyReusedError: As for `submit`.
            KeyInUseError: As for `submit`.
        """
        ends_at = monotonic_end(timeout_s)
        with self._waiting.submitter_slot() as is_free, self._waiters.waiter() as waiter:
            if not is_free:
                limit = self._config.workers + self._config.max_waiting
                raise ServerBusyError("runs", limit=limit, setting="max_waiting")
            run = self._admit(request, key, submitter, waiter, is_held=key is None)
            is_replay = run.is_replay
            try:
                run = self._wait_as_submitter(run, waiter, ends_at, is_gone, is_held=key is None)
                if key is None and not run.status.is_final and not is_gone():
                    self._store.queue.release_hold(run.run_id)
            except StoreUnavailableError as error:  # it is admitted nevertheless
                self._lease.record_failure(error)
        return replace(run, is_replay=is_replay)

    def _admit(
        self,
        request: RunRequest,
        key: str | None,
        submitter: Submitter,
        waiter: Waiter,
        *,
        is_held: bool,
    ) -> Run:
        if self._lifecycle.is_stopping:
            raise ServerStoppingError
        server_id = self._lifecycle.server_id()
        try:
            return self._admission.admit(
                request,
                key=key,
                submitter=submitter,
                server_id=server_id,
                waiter=waiter,
                is_held=is_held,
            )
        except StoreUnavailableError as error:
            self._lease.record_failure(error)
            raise

    def _wait_as_submitter(
        self,
        run: Run,
        waiter: Waiter,
        ends_at: float,
        is_gone: Callable[[], bool],
        *,
        is_held: bool,
    ) -> Run:
        """Wait for a submitted run; refuse it if this server stops before it has started."""
        while True:
            run = self._waiting.wait_for_admitted(run, waiter, ends_at, is_gone)
            if not (self._lifecycle.is_stopping and run.status is RunStatus.QUEUED):
                return run
            if not is_held or self._store.cancel_unclaimed(run.run_id):
                raise ServerStoppingError

    def cancel(self, run_id: str, *, by: Submitter = ANONYMOUS) -> Run:
        """Cancel a run; one that executes in a thread stops between two nodes.

        Args:
            run_id: The run.
            by: The caller who cancels it.

        Returns:
            The run as it is now.

        Raises:
            UnknownRunError: If there is no such run.
            RunEndedError: If it has ended otherwise.
        """
        self._lifecycle.server_id()
        run = self._store.request_cancel(run_id, by)
        if run is None:
            raise UnknownRunError(run_id)
        if run.status.is_final and run.status is not RunStatus.CANCELLED:
            raise RunEndedError(run_id, run.status)
        self._dispatcher.cancel(run_id)
        if run.status.is_final:
            self._waiters.wake(run_id)
            self._event_waiters.wake(run_id)
        return run

    def snapshot(self, params: str | None = None) -> Snapshot | ErrorDetail:
        """Describe the project, as for `Executor`; cached while its sources do not change.

        Raises:
            ServerStoppingError: If the server is stopping.
        """
        if self._lifecycle.is_stopping:
            raise ServerStoppingError
        self.start()
        return self._snapshots.get(params)
