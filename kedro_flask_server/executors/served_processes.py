"""Executes the calls of a served pipeline in worker processes that stay."""

from __future__ import annotations

from collections.abc import Callable

from kedro_flask_server.errors import LoadFailedError, NothingToLoadError
from kedro_flask_server.executors.run_supervisor import RunSupervisor
from kedro_flask_server.executors.supervised_run import SupervisedRun
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.model.run import RunOutcome, RunRequest
from kedro_flask_server.model.run_data import RunData
from kedro_flask_server.model.served import Loaded
from kedro_flask_server.model.stop import StopRequest
from kedro_flask_server.workers.pool import NoWorkerError, WorkerPool


class ServedProcesses:
    """The worker processes of one generation, forked from a process that has loaded the data."""

    def __init__(self, pool: WorkerPool, safe: Callable[[str], str], *, grace_s: float) -> None:
        """Prepare.

        Args:
            pool: The processes.
            safe: Returns text that may be stored and shown.
            grace_s: The grace period of a call that must stop, in seconds.
        """
        self._pool = pool
        self._safe = safe
        self._supervisor = RunSupervisor(pool, grace_s)

    def start(self) -> None:
        """Start the processes, as for `ServedWorkers`."""
        self._pool.start()

    def wait_until_loaded(self) -> Loaded:
        """Wait until the processes are ready, as for `ServedWorkers`."""
        try:
            ready = self._pool.wait_until_ready()
        except NoWorkerError as error:
            raise LoadFailedError(str(error)) from error
        for worker in ready:
            found = worker.preparation or {}
            if found.get("missing") is not None:
                raise NothingToLoadError(str(found["missing"]))
            if found.get("error") is not None:
                raise LoadFailedError(self._safe(f"{_said(found['error'])}"))
        versions = (ready[0].preparation or {}).get("versions", {})
        return Loaded(versions=versions, start_method=ready[0].template.start_method)

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
        """Execute a call, as for `ServedWorkers`."""
        execution = SupervisedRun(run_id, request, report, data, self._safe, stop=stop)
        is_stopping = False

        def look_and_stop() -> float:
            nonlocal is_stopping
            seconds = look()
            if stop.reason is not None and not is_stopping:
                is_stopping = True
                self._supervisor.enforce_stop(execution)
            return seconds

        return self._supervisor.execute(execution, look_and_stop)

    def fault(self) -> str | None:
        """Return why there are no processes, as for `ServedWorkers`."""
        return self._pool.why_down()

    def close(self) -> None:
        """End the processes, as for `ServedWorkers`."""
        self._pool.lower_priority()
        self._pool.close()


def _said(error: dict[str, object]) -> str:
    return f"{error.get('type')}: {error.get('message')}"
