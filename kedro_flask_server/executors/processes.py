"""Runs in processes of their own, each supervised by a thread of the server."""

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
from kedro_flask_server.model.run import (
    ErrorDetail,
    RunOutcome,
    RunRequest,
    Snapshot,
    StopReason,
)
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.workers.handles import (
    LOOK_EVERY_S,
    SuspensionAwareTimeout,
    WorkerHandle,
)
from kedro_flask_server.workers.pool import NoWorkerError, WorkerPool

logger = logging.getLogger(__name__)

# How long a run gets to end itself that the end of the server cuts off.
_CUT_OFF_GRACE_S = 1.0


class ProcessExecutor:
    """Executes each run in a process that no other run shares, unless settings say otherwise."""

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
            safe: Returns text that may be kept and shown.
            workers: How many runs execute at a time.
            cancel_grace_s: How long a run that is to stop gets to end itself, in seconds.
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
            ServerSettingsError: If the system gives no more threads.
        """
        start_threads(self._pool, self._slots)
        self._workers.start()

    def submit(self, run_id: str, request: RunRequest, report: RunReport) -> Future[RunOutcome]:
        """Have a run executed, as for `Executor`."""
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
        """Have a run stop: asked by SIGTERM, and killed after the grace, with all it started."""
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
        """Describe the project, in a process that does nothing else."""
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
                if answer:  # otherwise it has died since it did the last one
                    return answer

    def _inspect(self, worker: WorkerHandle, params: str | None) -> Snapshot | ErrorDetail | None:
        """Return a snapshot; None where the worker has died before it began."""
        self._inspector = worker
        has_started = False
        patience = SuspensionAwareTimeout(PATIENCE_S)
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
                if patience.is_over(worker.has_ended):
                    self._workers.kill_template(worker.template)
        except (OSError, EOFError, ValueError):  # the last where the server ends, and has closed it
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
        """Have all processes end unless this is called again in time, as for `Executor`."""
        self._workers.renew_lease(seconds)

    def dead_threads(self) -> list[str]:
        """Return which threads have ended, as for `Executor`."""
        return [] if self._workers.is_alive() else ["kedro-workers"]

    def faults(self) -> dict[str, str]:
        """Return what is at fault, as for `Executor`."""
        return self._workers.faults()

    def pipelines(self) -> list[str] | None:
        """Return the names of the project's pipelines, as for `Executor`."""
        return self._workers.pipelines

    def stop_accepting(self) -> None:
        """Take no more runs; those that execute go on to their end."""
        self._pool.shutdown(wait=False)

    def shutdown(self) -> None:
        """End all processes; a run that still executes has failed with ``ServerStopped``."""
        for run_id in [*self._executions]:
            message = "The server stopped, and the run had not ended."
            self._stop(run_id, StopReason.SHUTDOWN, message, _CUT_OFF_GRACE_S)
        self._pool.shutdown(wait=True)
        self._workers.close()
        if self._inspector:
            self._inspector.close()

    def _execute(self, execution: SupervisedRun) -> RunOutcome:
        """Have a worker execute a run, and return when that is done, and nothing left of it."""
        try:
            while not execution.has_started:  # a worker may die before it has taken the run
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
            if execution.stop.reason is not None:  # who asked has not seen the worker
                self._workers.stop(worker, self._grace_s)
        try:
            execution.follow(worker, self._workers.kill_template)
        finally:
            with execution.lock:
                execution.worker = None
                # One that was told to stop may be about to.
                is_free = execution.may_be_followed_by_another and execution.stop.reason is None
            if is_free:
                self._workers.return_worker(worker)
            else:
                self._workers.discard(worker)
