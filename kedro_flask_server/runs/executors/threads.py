"""Runs in threads of the server: one Kedro session for all of them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from kedro_flask_server.project import KedroProject
from kedro_flask_server.runs.model import RunOutcome, RunRequest


class ThreadExecutor:
    """Executes runs in a bounded pool of threads, in the order in which they came."""

    def __init__(self, project: KedroProject, *, workers: int) -> None:
        """Prepare the pool; its threads start with the first runs.

        Args:
            project: The project whose pipelines run.
            workers: How many runs execute at a time.
        """
        self._project = project
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kedro-run")

    def submit(self, run_id: str, request: RunRequest) -> Future[RunOutcome]:
        """Have a run executed when its turn comes.

        Args:
            run_id: The run's id.
            request: What to run.

        Returns:
            The run's outcome, to come. Cancelling it takes a run out that has not started.
        """
        return self._pool.submit(self._project.execute, run_id, request)

    def close(self) -> None:
        """Take no more runs; those that execute go on to their end."""
        self._pool.shutdown(wait=False)
