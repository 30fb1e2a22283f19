"""Executes runs in worker processes, each supervised by a thread of the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kedro_flask_server.executors import ServedWorkers
from kedro_flask_server.executors.run_supervisor import RunSupervisor
from kedro_flask_server.executors.supervised_run import (
    PATIENCE_S,
    SupervisedRun,
    crashed_worker,
    learn_secrets,
)
from kedro_flask_server.executors.thread_pools import start_threads
from kedro_flask_server.model.data_access import DataAccess, FoundAccess
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.retry import ChainPast, NextRun
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, StopReason
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.served import (
    DatasetVersion,
    DatasetVersions,
    Preload,
    ServedSettings,
)
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
        served_workers: Callable[[Preload, ServedSettings], ServedWorkers],
    ) -> None:
        """Prepare; `start` starts threads and processes.

        Args:
            pool: The worker processes.
            safe: Returns text that may be stored and shown.
            workers: How many runs execute at a time.
            cancel_grace_s: The grace period of a run that must stop, in seconds.
            served_workers: Creates the workers of served pipelines, as for `Executor`.
        """
        self._workers = pool
        self._supervisor = RunSupervisor(pool, cancel_grace_s)
        self._create_served = served_workers
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

    def submit(
        self, run_id: str, request: RunRequest, report: RunReport, data: RunData
    ) -> Future[RunOutcome]:
        """Execute a run, as for `Executor`."""
        execution = SupervisedRun(run_id, request, report, data, self._safe)
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
        if execution is not None:
            self._supervisor.stop(execution, reason, message, grace_s)

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        """Describe the project, in a process reserved for that."""
        answer = self._ask("snapshot", {"params": params}, keeps_process=True)
        return answer if isinstance(answer, ErrorDetail) else self._described(answer)

    def data_access(self, request: RunRequest) -> FoundAccess | None:
        """Return what a run would read and write, as for `Executor`."""
        # Most are asked for once: a process that stays would keep its template from ending.
        answer = self._ask("access", {"request": request.given()}, keeps_process=False)
        return None if isinstance(answer, ErrorDetail) else _found_access(answer)

    def describe_data(self, requests: Sequence[RunRequest]) -> list[dict[str, Any] | ErrorDetail]:
        """Return what data requests take and return, as for `Executor`."""
        body = {"requests": [request.given() for request in requests]}
        answer = self._ask("data", body, keeps_process=False)
        if isinstance(answer, ErrorDetail):
            return [answer] * len(requests)
        return [
            ErrorDetail(**each["error"]) if "error" in each else each for each in answer["found"]
        ]

    def dataset_versions(self, names: Sequence[str]) -> DatasetVersions | ErrorDetail:
        """Return what could be loaded for datasets now, as for `Executor`."""
        answer = self._ask("versions", {"names": [*names]}, keeps_process=True)
        if isinstance(answer, ErrorDetail):
            return answer
        if "error" in answer:
            return ErrorDetail(**answer["error"])
        return {
            name: tuple(DatasetVersion(**version) for version in each)
            for name, each in answer["found"].items()
        }

    def served_workers(self, preload: Preload, settings: ServedSettings) -> ServedWorkers:
        """Return the workers of a generation, as for `Executor`."""
        return self._create_served(preload, settings)

    def plan_next_run(self, past: ChainPast) -> NextRun | ErrorDetail:
        """Return the next run of a chain, as for `Executor`."""
        answer = self._ask("retry", {"past": past.dump()}, keeps_process=False)
        if isinstance(answer, ErrorDetail):
            return answer
        return ErrorDetail(**answer["error"]) if "error" in answer else NextRun.load(answer)

    def _ask(
        self, kind: str, body: dict[str, Any], *, keeps_process: bool
    ) -> dict[str, Any] | ErrorDetail:
        """Return the answer of a process that executes no run, or why there is none."""
        with self._inspecting:
            if keeps_process and not self._has_inspector:
                self._has_inspector = True
                self._workers.resize(1)
            while True:
                if self._inspector and not self._workers.is_current(self._inspector):
                    self._drop_inspector()
                try:
                    worker = self._inspector or self._workers.acquire(StopRequest())
                except NoWorkerError as error:
                    return crashed_worker(f"No worker process could be started. {error}")
                answer = None if worker is None else self._inspect(worker, kind, body)
                if not self._has_inspector:
                    self._drop_inspector()
                if answer is not None:  # otherwise it has died since the last one
                    return answer

    def _drop_inspector(self) -> None:
        worker, self._inspector = self._inspector, None
        if worker is not None:
            self._workers.discard(worker)

    def _inspect(
        self, worker: WorkerHandle, kind: str, body: dict[str, Any]
    ) -> dict[str, Any] | ErrorDetail | None:
        """Return an answer; None if the worker died before it began."""
        self._inspector = worker
        has_started = False
        timeout = SuspensionAwareTimeout(PATIENCE_S)
        try:
            worker.channel.send(kind, body)
            while True:
                worker.wait(LOOK_EVERY_S)
                worker.read_output()
                messages = worker.messages()
                for found, content in [*worker.reports.read(), *messages]:
                    if found == kind:
                        return content
                    if found == "secrets":
                        learn_secrets(content)
                    has_started = has_started or found == "started"
                if timeout.is_over(worker.has_ended):
                    self._workers.kill_template(worker.template)
        except (OSError, EOFError, ValueError):  # ValueError if the server ends and has closed it
            has_started = has_started or any(
                found == "started" for found, _ in worker.reports.read()
            )
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
        outcome = self._supervisor.execute(execution)
        if execution.was_executed:
            self._workers.record_findings(
                is_loaded=execution.is_loaded,
                imported=execution.imported,
                read_with=execution.param_names if execution.has_read_anew else None,
            )
        return outcome


def _found_access(body: dict[str, Any]) -> FoundAccess | None:
    if "reads" not in body:
        return None
    return FoundAccess(
        access=DataAccess(reads=body["reads"], writes=body["writes"]),
        unknown=tuple(body["unknown"]),
        depends_on_params=bool(body["depends_on_params"]),
    )
