"""Executes runs in worker processes, each supervised by a thread of the server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kedro_flask_server.executors.supervised_run import (
    PATIENCE_S,
    SupervisedRun,
    crashed_worker,
    learn_secrets,
)
from kedro_flask_server.executors.threads import start_threads
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, StopReason
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.workers.handles import (
    LOOK_EVERY_S,
    SuspensionAwareTimeout,
    WorkerHandle,
)
from kedro_flask_server.workers.pool import NoWorkerError, WorkerPool

logger = logging.getLogger(__name__)

# Grace period of a run that the end of the server cuts off.
_CUT_OFF_GRACE_S = 1.0


class ProcessExecutor:
    """Executes each run in a process of its own, unless settings let workers be reused."""

    def __init__(
        self,
        pool: WorkerPool,
        safe: Callable[[str], str],
        *,
        workers: int,
        cancel_grace_s: float,
    ) -> None:
        """Prepare; `start` starts threads and processes.

        Args:
            pool: The worker processes.
            safe: Returns text that may be stored and shown.
            workers: How many runs execute at a time.
            cancel_grace_s: The grace period of a run that must stop, in seconds.
        """
        self._workers = pool
        self._safe = safe
        self._slots = workers
        self._grace_s = cancel_grace_s
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kedro-run")
        self._executions: dict[str, SupervisedRun] = {}
        self._inspecting = threading.Lock()
        self._inspector: WorkerHandle | None = None
        self._has_inspector = False

    def start(self) -> None:
        """Start the processes, and the threads that supervise them.

        Raises:
            ServerSettingsError: If the system refuses another thread.
        """
        start_threads(self._pool, self._slots)
        self._workers.start()

    def submit(self, run_id: str, request: RunRequest, report: RunReport) -> Future[RunOutcome]:
        """Execute a run, as for `Executor`."""
        execution = SupervisedRun(run_id, request, report, self._safe)
        self._executions[run_id] = execution
        try:
            future = self._pool.submit(self._execute, execution)
        except RuntimeError:
            del self._executions[run_id]
            raise
        future.add_done_callback(lambda _: self._executions.pop(run_id))
        return future

    def stop(self, run_id: str, reason: StopReason, message: str) -> None:
        """Stop a run by SIGTERM; kill it and its descendants after the grace period."""
        self._stop(run_id, reason, message, self._grace_s)

    def _stop(self, run_id: str, reason: StopReason, message: str, grace_s: float) -> None:
        execution = self._executions.get(run_id)
        if execution is None:
            return
        if execution.stop.ask(reason, message) or grace_s < self._grace_s:
            with execution.lock:
                execution.ends_at = time.monotonic() + grace_s
                if execution.worker is not None:
                    self._workers.stop(execution.worker, grace_s)
            self._workers.wake()

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        """Describe the project, in a process reserved for that."""
        with self._inspecting:
            if not self._has_inspector:
                self._has_inspector = True
                self._workers.resize(1)
            while True:
                if self._inspector and not self._workers.is_current(self._inspector):
                    self._workers.discard(self._inspector)
                    self._inspector = None
                try:
                    worker = self._inspector or self._workers.acquire(StopRequest())
                except NoWorkerError as error:
                    return crashed_worker(f"No worker process could be started. {error}")
                answer = worker and self._inspect(worker, params)
                if answer:  # otherwise it has died since the last snapshot
                    return answer

    def _inspect(self, worker: WorkerHandle, params: str | None) -> Snapshot | ErrorDetail | None:
        """Return a snapshot; None if the worker died before it began."""
        self._inspector = worker
        has_started = False
        timeout = SuspensionAwareTimeout(PATIENCE_S)
        try:
            worker.channel.send("snapshot", {"params": params})
            while True:
                worker.wait(LOOK_EVERY_S)
                worker.read_output()
                messages = worker.messages()
                for kind, body in [*worker.reports.read(), *messages]:
                    if kind == "snapshot":
                        return self._described(body)
                    if kind == "secrets":
                        learn_secrets(body)
                    has_started = has_started or kind == "started"
                if timeout.is_over(worker.has_ended):
                    self._workers.kill_template(worker.template)
        except (OSError, EOFError, ValueError):  # ValueError if the server ends and has closed it
            has_started = has_started or any(kind == "started" for kind, _ in worker.reports.read())
            self._inspector = None
            self._workers.discard(worker)
            message = "The process that describes the project ended."
            return crashed_worker(message) if has_started else None

    def _described(self, body: dict[str, Any]) -> Snapshot | ErrorDetail:
        self._workers.record_findings(is_loaded=bool(body.get("is_loaded")))
        if "error" in body:
            return ErrorDetail(**body["error"])
        return Snapshot(
            content=body["snapshot"],
            fingerprint=body.get("fingerprint"),
            sources=tuple(body.get("sources", ())),
        )

    def renew_lease(self, seconds: float | None) -> None:
        """Renew the lease of all processes, as for `Executor`."""
        self._workers.renew_lease(seconds)

    def dead_threads(self) -> list[str]:
        """Return the threads that have ended, as for `Executor`."""
        return [] if self._workers.is_alive() else ["kedro-workers"]

    def faults(self) -> dict[str, str]:
        """Return the faults, as for `Executor`."""
        return self._workers.faults()

    def pipelines(self) -> list[str] | None:
        """Return the names of the project's pipelines, as for `Executor`."""
        return self._workers.pipelines

    def stop_accepting(self) -> None:
        """Refuse further runs; executing runs continue to their end."""
        self._pool.shutdown(wait=False)

    def shutdown(self) -> None:
        """End all processes; executing runs fail with ``ServerStopped``."""
        for run_id in [*self._executions]:
            message = "The server stopped, and the run had not ended."
            self._stop(run_id, StopReason.SHUTDOWN, message, _CUT_OFF_GRACE_S)
        self._pool.shutdown(wait=True)
        self._workers.close()
        if self._inspector:
            self._inspector.close()

    def _execute(self, execution: SupervisedRun) -> RunOutcome:
        """Execute a run in a worker, and return once nothing is left of it."""
        try:
            while not execution.has_started:  # a worker may die before it starts the run
                worker = self._workers.acquire(execution.stop)
                if worker is None:
                    return execution.stop.outcome(execution.duration_ms)
                self._execute_in(worker, execution)
        except NoWorkerError as error:
            return execution.crashed(f"No worker process could be started. {error}")
        self._workers.record_findings(
            is_loaded=execution.is_loaded,
            imported=execution.imported,
            read_with=execution.param_names if execution.has_read_anew else None,
        )
        return execution.outcome()

    def _execute_in(self, worker: WorkerHandle, execution: SupervisedRun) -> None:
        with execution.lock:
            execution.worker = worker
            if execution.stop.reason is not None:  # the request came before the worker
                self._workers.stop(worker, self._grace_s)
        try:
            execution.follow(worker, self._workers.kill_template)
        finally:
            with execution.lock:
                execution.worker = None
                # A worker that was asked to stop may be about to.
                is_free = execution.may_be_followed_by_another and execution.stop.reason is None
            if is_free:
                self._workers.return_worker(worker)
            else:
                self._workers.discard(worker)
