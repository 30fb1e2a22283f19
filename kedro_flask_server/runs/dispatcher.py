"""Claims queued runs as slots become free, and starts them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.config.settings import ServerConfig, timeout_of
from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.executors import Executor
from kedro_flask_server.model.run import (
    ErrorDetail,
    Run,
    RunOutcome,
    RunStatus,
    StopReason,
)
from kedro_flask_server.runs.completion import Completion
from kedro_flask_server.runs.executions import Execution, Executions
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.run_data import RunDataService
from kedro_flask_server.store import ClaimedRun, RunStore

logger = logging.getLogger(__name__)

# How often to look for runs that other servers have queued.
_POLL_S = 0.5

# How often to compare the executing runs with those in the store, which always responds faster.
_CHECK_EVERY_S = 5.0


class Dispatcher:
    """Starts queued runs on an executor, and has their ends stored."""

    def __init__(
        self,
        store: RunStore,
        executor: Executor,
        *,
        executions: Executions,
        completion: Completion,
        lease: ServerLease,
        recorder: Recorder,
        data: RunDataService,
        config: ServerConfig,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            store: The store with the queue.
            executor: Executes the runs.
            executions: The slots.
            completion: Stores the ends.
            lease: The registration of this server.
            recorder: Stores the events of the runs.
            data: Answers what runs ask about their data.
            config: ``run_timeout_s``.
        """
        self._store = store
        self._executor = executor
        self._executions = executions
        self._completion = completion
        self._lease = lease
        self._recorder = recorder
        self._data = data
        self._config = config
        self._wake = threading.Event()
        # Set by runs of this server; runs of others are found periodically.
        self._may_be_queued = False
        # The end of a run here may free a queued one.
        self._may_be_blocked = False
        self._check_at = 0.0
        # The runs that the store, but not this server, had as executing at the last look.
        self._unknown: set[str] = set()
        self._thread = BackgroundThread(self._work, name="kedro-dispatcher")

    def start(self) -> None:
        """Begin to claim runs.

        Raises:
            ServerSettingsError: If the executor cannot start.
        """
        self._executor.start()
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether its thread is alive."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop claiming runs; executing runs continue."""
        self._executions.stop_starting()
        self._wake.set()
        self._thread.join()
        self._executor.stop_accepting()

    def wake(self) -> None:
        """Look for queued runs now."""
        self._may_be_queued = True
        if self._executions.has_free_slot():  # otherwise the run that frees one does so
            self._wake.set()

    @contextmanager
    def slot(self) -> Iterator[bool]:
        """Reserve a slot for a run that is about to be stored, if one is free.

        Yields:
            Whether a slot is reserved.
        """
        is_reserved = self._executions.reserve()
        try:
            yield is_reserved
        finally:
            if is_reserved:
                self._executions.release()
                if self._may_be_queued:
                    self._wake.set()

    def execute(self, claimed: ClaimedRun, server_id: str) -> bool:
        """Execute a run for which a slot is reserved.

        Args:
            claimed: The run.
            server_id: This server.

        Returns:
            Whether it executes; otherwise it is queued again.
        """
        run = claimed.run
        execution = self._execution_of(run, server_id)
        self._executions.add(execution)
        # The claim took longer than the lease allows, or the server is stopping.
        if not self._executions.may_start():
            self._requeue(execution)
            return False
        report = self._recorder.open(run.run_id, server_id, after=claimed.event_id)
        try:
            data = self._data.of(run, server_id)
            future = self._executor.submit(run.run_id, run.request, report, data)
        except RuntimeError:  # the interpreter is exiting, and waits for executing runs
            self._executions.stop_starting()
            self._requeue(execution)
            return False
        future.add_done_callback(self._on_end(execution))
        return True

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop; ignored if it does not execute here."""
        self._executor.stop(run_id, StopReason.CANCEL, "The run was cancelled.")

    def stop_overdue(self) -> None:
        """Ask the runs to stop that have exceeded their timeout."""
        now = time.monotonic()
        for each in self._executions.executing():
            if each.ends_at is not None and now >= each.ends_at:
                message = f"The run took longer than {each.timeout_s:g} s (setting run_timeout_s)."
                self._executor.stop(each.run_id, StopReason.TIMEOUT, message)

    def give_up(self) -> list[str]:
        """Record that the server stopped before the end of the runs that still execute.

        Returns:
            Their ids.
        """
        executing = self._executions.executing()
        for each in executing:
            if not self._completion.record(each, _stopped(each)):
                break  # the others could not be stored either, and each would take seconds
        return [each.run_id for each in executing]

    def _work(self) -> None:
        while not self._executions.is_stopping:
            is_woken = self._wake.wait(_POLL_S)
            self._wake.clear()
            with self._logged_failures():
                self._requeue_unstarted()
                # Without news here, looking is cheaper than a claim that finds nothing.
                if is_woken or self._store.queue.has_any():
                    self._start_all()

    @contextmanager
    def _logged_failures(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailableError as error:
            self._lease.record_failure(error)
        except Exception:  # the queue must continue, whatever a run does
            logger.exception("A queued run could not be started")

    def _start_all(self) -> None:
        """Start queued runs while there are free slots."""
        while self._executions.reserve():
            try:
                # Runs queued from now on set it again.
                self._may_be_queued = False
                if self._start_one():  # there may be more
                    self._may_be_queued = True
            finally:
                self._executions.release()
            if not self._may_be_queued:
                return

    def _start_one(self) -> bool:
        """Start the next run, and return whether there was one."""
        server_id = self._lease.server_id
        if server_id is None:
            return False
        claimed = self._store.queue.claim(server_id)
        if claimed is None:
            self._may_be_blocked = self._store.queue.has_any()
            return False
        return self.execute(claimed, server_id)

    def _requeue_unstarted(self) -> None:
        """Requeue runs that are claimed in the store, but whose claim was lost on the way here."""
        server_id = self._lease.server_id
        now = time.monotonic()
        if now < self._check_at or server_id is None:
            return
        self._check_at = now + _CHECK_EVERY_S
        unknown = {*self._store.queue.running_at(server_id)} - self._executions.in_hand
        # A claim in progress has arrived, or is lost, by the next look.
        for run_id in unknown & self._unknown:
            self._store.queue.requeue(run_id, server_id)
        self._unknown = unknown
        self._store.queue.unblock_stale()

    def _requeue(self, execution: Execution) -> None:
        self._executions.remove(execution.run_id)
        self._recorder.close(execution.run_id)
        self._store.queue.requeue(execution.run_id, execution.server_id)
        self._may_be_queued = True
        self._wake.set()

    def _execution_of(self, run: Run, server_id: str) -> Execution:
        now = time.monotonic()
        timeout_s = timeout_of(self._config.run_timeout_s, run.request.pipelines)
        return Execution(
            run=run,
            server_id=server_id,
            started_at=now,
            ends_at=None if timeout_s is None else now + timeout_s,
            timeout_s=timeout_s,
        )

    def _on_end(self, execution: Execution) -> Callable[[Future[RunOutcome]], None]:
        def record_and_go_on(future: Future[RunOutcome]) -> None:
            fault = future.exception()
            if fault is not None:
                logger.error("Run %s could not be executed", execution.run_id, exc_info=fault)
                outcome = _failure_of_the_server(execution, fault)
            else:
                outcome = future.result()
            # This thread starts the next run, too, which saves waking another.
            with self._logged_failures():
                if outcome.status is RunStatus.QUEUED:  # another run is in the way
                    self._requeue(execution)
                    return
                self._completion.record(execution, outcome)
                if self._may_be_queued or self._may_be_blocked:
                    self._start_all()

        return record_and_go_on


def _stopped(execution: Execution) -> RunOutcome:
    error = ErrorDetail(
        type="ServerStopped", message="The server stopped, and the run had not ended."
    )
    return RunOutcome(status=RunStatus.FAILURE, duration_ms=execution.elapsed_ms, error=error)


def _failure_of_the_server(execution: Execution, fault: BaseException) -> RunOutcome:
    error = ErrorDetail(
        type=type(fault).__qualname__, message="The server could not execute the run."
    )
    return RunOutcome(status=RunStatus.FAILURE, duration_ms=execution.elapsed_ms, error=error)
