"""Runs in threads of the server: one Kedro session for all of them."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from kedro_flask_server.errors import ServerSettingsError
from kedro_flask_server.project import KedroProject
from kedro_flask_server.runs.model import RunOutcome, RunRequest, StopReason
from kedro_flask_server.runs.reporting import RunReport
from kedro_flask_server.runs.stopping import StopRequest


class ThreadExecutor:
    """Executes runs in a bounded pool of threads."""

    def __init__(self, project: KedroProject, *, workers: int) -> None:
        """Prepare the pool; `start` starts its threads.

        Args:
            project: The project whose pipelines run.
            workers: How many runs execute at a time.
        """
        self._project = project
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kedro-run")
        self._stops: dict[str, StopRequest] = {}

    def start(self) -> None:
        """Start all threads now, so that a run which is taken up has one.

        Raises:
            ServerSettingsError: If the system gives no more threads.
        """
        together = threading.Barrier(self._workers)
        try:
            for _ in range(self._workers):
                self._pool.submit(together.wait)
        except RuntimeError as error:
            together.abort()
            raise ServerSettingsError(
                f"Setting 'workers' cannot be {self._workers}: the system gives no more threads "
                f"({error})."
            ) from error

    def submit(self, run_id: str, request: RunRequest, report: RunReport) -> Future[RunOutcome]:
        """Have a run executed.

        Args:
            run_id: The run's id.
            request: What to run.
            report: Takes down what happens in it.

        Returns:
            The run's outcome, to come.

        Raises:
            RuntimeError: If the executor is closed, or the process is about to end.
        """
        stop = StopRequest()
        self._stops[run_id] = stop
        try:
            execution = self._pool.submit(self._project.execute, run_id, request, stop, report)
        except RuntimeError:
            del self._stops[run_id]
            raise
        execution.add_done_callback(lambda _: self._stops.pop(run_id))
        return execution

    def stop(self, run_id: str, reason: StopReason, message: str) -> None:
        """Ask a run to stop. A thread cannot be stopped by force: it stops between two nodes.

        Args:
            run_id: The run's id; one that does not execute here is left alone.
            reason: Why.
            message: The same for a person.
        """
        stop = self._stops.get(run_id)
        if stop is not None:
            stop.ask(reason, message)

    def close(self) -> None:
        """Take no more runs; those that execute go on to their end."""
        self._pool.shutdown(wait=False)
