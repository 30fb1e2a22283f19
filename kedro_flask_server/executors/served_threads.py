"""Executes the calls of a served pipeline in threads of the server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property, partial

from kedro_flask_server.errors import LoadFailedError, NothingToLoadError
from kedro_flask_server.executors.thread_pools import start_threads
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import RunOutcome, RunRequest
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.served import Loaded, Preload
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.project import KedroProject, PreparedPipeline


class ServedThreads:
    """The threads of one generation, which share what this process has loaded once."""

    def __init__(self, project: KedroProject, preload: Preload, *, threads: int) -> None:
        """Prepare.

        Args:
            project: The project.
            preload: What to load.
            threads: How many calls execute at a time.
        """
        self._project = project
        self._preload = preload
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kedro-served-call")

    def start(self) -> None:
        """Start the threads, as for `ServedWorkers`."""
        start_threads(self._pool, self._threads)

    @cached_property
    def _prepared(self) -> PreparedPipeline:
        return self._project.prepare(self._preload)

    def wait_until_loaded(self) -> Loaded:
        """Load, as for `ServedWorkers`."""
        try:
            return Loaded(versions=self._prepared.versions, start_method="thread")
        except NothingToLoadError:
            raise
        except BaseException as error:  # of the project's code
            message = f"{type(error).__qualname__}: {error}"
            raise LoadFailedError(self._project.safe_text(message)) from error

    def execute(
        self,
        run_id: str,
        request: RunRequest,
        report: RunReport,
        data: RunData,
        *,
        stop: StopRequest,
        look: Callable[[], float],
    ) -> RunOutcome:
        """Execute a call, as for `ServedWorkers`; in a thread, it stops between two nodes."""
        execute = partial(self._project.execute, prepared=self._prepared)
        call = self._pool.submit(execute, run_id, request, stop, report, data)
        while not wait([call], look()).done:
            pass
        return call.result()

    def fault(self) -> str | None:
        """Return None, as for `ServedWorkers`: threads stay."""
        return None

    def close(self) -> None:
        """End the threads, as for `ServedWorkers`."""
        self._pool.shutdown(wait=False)
