"""Executes runs in threads of the server, with one Kedro session for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kedro_flask_server.errors import NOT_LOADED
from kedro_flask_server.executors import ServedWorkers
from kedro_flask_server.executors.served_threads import ServedThreads
from kedro_flask_server.executors.thread_pools import start_threads
from kedro_flask_server.logs import LogWriter
from kedro_flask_server.model.data_access import FoundAccess
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.retry import ChainPast, NextRun
from kedro_flask_server.model.run import ErrorDetail, RunOutcome, RunRequest, StopReason
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.served import DatasetVersions, Preload, ServedSettings
from kedro_flask_server.model.snapshot import Snapshot
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.project import KedroProject


class ThreadExecutor:
    """Executes runs in a bounded pool of threads."""

    def __init__(
        self, project: KedroProject, *, workers: int, log_writer: LogWriter | None = None
    ) -> None:
        """Prepare the pool; `start` starts its threads.

        Args:
            project: The project whose pipelines run.
            workers: How many runs execute at a time.
            log_writer: Writes the log records of this process while runs go on; None leaves that
                to the runs.
        """
        self._project = project
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kedro-run")
        self._stops: dict[str, StopRequest] = {}
        self._log_writer = log_writer

    def start(self) -> None:
        """Start all threads now, so that each claimed run finds one.

        Raises:
            ServerSettingsError: If the system refuses another thread.
        """
        start_threads(self._pool, self._workers)
        if self._log_writer is not None:
            self._log_writer.start()

    def submit(
        self, run_id: str, request: RunRequest, report: RunReport, data: RunData
    ) -> Future[RunOutcome]:
        """Execute a run, as for `Executor`."""
        stop = StopRequest()
        self._stops[run_id] = stop
        try:
            execution = self._pool.submit(
                self._project.execute, run_id, request, stop, report, data
            )
        except RuntimeError:
            del self._stops[run_id]
            raise
        execution.add_done_callback(lambda _: self._stops.pop(run_id))
        return execution

    def stop(self, run_id: str, reason: StopReason, message: str) -> None:
        """Ask a run to stop. A thread cannot be killed: the run stops between two nodes."""
        stop = self._stops.get(run_id)
        if stop is not None:
            stop.ask(reason, message)

    def snapshot(self, params: str | None) -> Snapshot | ErrorDetail:
        """Describe the project, as for `Executor`."""
        return self._project.snapshot(params)

    def data_access(self, request: RunRequest) -> FoundAccess | None:
        """Return what a run would read and write, as for `Executor`."""
        return self._project.data_access(request)

    def describe_data(self, requests: Sequence[RunRequest]) -> list[dict[str, Any] | ErrorDetail]:
        """Return what data requests take and return, as for `Executor`."""
        return [*map(self._project.describe_data, requests)]

    def dataset_versions(self, names: Sequence[str]) -> DatasetVersions | ErrorDetail:
        """Return what could be loaded for datasets now, as for `Executor`."""
        return self._project.dataset_versions(names)

    def served_workers(self, preload: Preload, settings: ServedSettings) -> ServedWorkers:
        """Return the threads of a generation, as for `Executor`."""
        return ServedThreads(self._project, preload, threads=settings.workers)

    def plan_next_run(self, past: ChainPast) -> NextRun | ErrorDetail:
        """Return the next run of a chain, as for `Executor`."""
        return self._project.plan_next_run(past)

    def renew_lease(self, seconds: float | None) -> None:
        """Do nothing: the process, whose end is limited by the lease, ends the runs."""

    def dead_threads(self) -> list[str]:
        """Return the threads that have ended, as for `Executor`."""
        writer = self._log_writer
        return [] if writer is None or writer.is_alive() else ["kedro-log-writer"]

    def faults(self) -> dict[str, str]:
        """Return the faults, as for `Executor`."""
        return {} if self._project.is_loaded else {"pipelines": NOT_LOADED}

    def pipelines(self) -> list[str] | None:
        """Return the names of the project's pipelines, as for `Executor`."""
        return self._project.pipelines

    def stop_accepting(self) -> None:
        """Refuse further runs; executing runs continue to their end."""
        self._pool.shutdown(wait=False)

    def shutdown(self) -> None:
        """Close the log writer; executing runs end with the process."""
        if self._log_writer is not None:
            self._log_writer.close()
