"""Has workers of a pool execute runs, each supervised by the thread that asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from kedro_flask_server.executors.supervised_run import READ_EVERY_S, SupervisedRun
from kedro_flask_server.model.run import RunOutcome, StopReason
from kedro_flask_server.workers.handles import WorkerHandle
from kedro_flask_server.workers.pool import NoWorkerError, WorkerPool


def _look_at_nothing() -> float:
    return READ_EVERY_S


class RunSupervisor:
    """Gives runs to the workers of a pool, and stops them. Thread-safe."""

    def __init__(self, pool: WorkerPool, grace_s: float) -> None:
        """Prepare.

        Args:
            pool: The workers.
            grace_s: The grace period of a run that must stop, in seconds.
        """
        self._workers = pool
        self._grace_s = grace_s

    def stop(
        self, execution: SupervisedRun, reason: StopReason, message: str, grace_s: float
    ) -> None:
        """Stop a run by SIGTERM; kill it and its descendants after a grace period.

        Args:
            execution: The run.
            reason: Why; the first counts.
            message: The same for a person.
            grace_s: The grace period, in seconds.
        """
        if execution.stop.ask(reason, message) or grace_s < self._grace_s:
            self.enforce_stop(execution, grace_s)
            self._workers.wake()

    def enforce_stop(self, execution: SupervisedRun, grace_s: float | None = None) -> None:
        """Stop a run that was asked to stop, as `stop` does."""
        grace_s = self._grace_s if grace_s is None else grace_s
        with execution.lock:
            execution.ends_at = time.monotonic() + grace_s
            if execution.worker is not None:
                self._workers.stop(execution.worker, grace_s)

    def execute(
        self, execution: SupervisedRun, look: Callable[[], float] = _look_at_nothing
    ) -> RunOutcome:
        """Execute a run in a worker, and return once nothing is left of it.

        Args:
            execution: The run.
            look: Called again and again; returns after how many seconds at the latest.
        """
        try:
            while not execution.has_started:  # a worker may die before it starts the run
                worker = self._workers.acquire(execution.stop, look)
                if worker is None:
                    return execution.stop.outcome(execution.duration_ms)
                self._execute_in(worker, execution, look)
        except NoWorkerError as error:
            return execution.crashed(f"No worker process could be started. {error}")
        execution.was_executed = True
        return execution.outcome()

    def _execute_in(
        self, worker: WorkerHandle, execution: SupervisedRun, look: Callable[[], float]
    ) -> None:
        with execution.lock:
            execution.worker = worker
            if execution.stop.reason is not None:  # the request came before the worker
                self._workers.stop(worker, self._grace_s)
        try:
            execution.follow(worker, self._workers.kill_template, look=look)
        finally:
            with execution.lock:
                execution.worker = None
                # A worker that was asked to stop may be about to.
                is_free = execution.may_be_followed_by_another and execution.stop.reason is None
            if is_free:
                self._workers.return_worker(worker)
            else:
                self._workers.discard(worker)
