"""Takes runs in, within limits, and sees them to their end."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, wait

from kedro_flask_server.errors import ServerBusyError, ServerStoppingError
from kedro_flask_server.runs.executors.threads import ThreadExecutor
from kedro_flask_server.runs.ids import RunIds
from kedro_flask_server.runs.model import ErrorDetail, RunOutcome, RunRequest

logger = logging.getLogger(__name__)


class RunService:
    """Takes runs in, hands them to an executor and gives out their outcomes."""

    def __init__(self, executor: ThreadExecutor, *, workers: int, max_waiting: int) -> None:
        """Serve an executor.

        Args:
            executor: Who executes the runs.
            workers: How many runs it executes at a time.
            max_waiting: How many more may wait for their turn.
        """
        self._executor = executor
        self._max_waiting = max_waiting
        self._max_active = workers + max_waiting
        self._ids = RunIds()
        self._lock = threading.Lock()
        self._active: dict[str, _ActiveRun] = {}
        self._stopping = False

    def run(self, request: RunRequest) -> RunOutcome:
        """Have pipelines run, and wait for the end.

        Args:
            request: What to run.

        Returns:
            What became of it.

        Raises:
            ServerBusyError: If as many runs wait for their turn as may.
            ServerStoppingError: If the server stops before the run has started.
        """
        return self._submit(request).outcome.result()

    def _submit(self, request: RunRequest) -> _ActiveRun:
        with self._lock:
            if self._stopping:
                raise ServerStoppingError
            if len(self._active) >= self._max_active:
                raise ServerBusyError("a run", max_waiting=self._max_waiting)
            run_id = self._ids.next()
            run = _ActiveRun(run_id, self._executor.submit(run_id, request))
            self._active[run_id] = run
        run.execution.add_done_callback(lambda _: self._end(run))
        return run

    def _end(self, run: _ActiveRun) -> None:
        with self._lock:
            del self._active[run.run_id]
            run.end()

    def drain(self, timeout_s: float) -> bool:
        """Take no more runs and let those under way end.

        Who waits for a run that has not started is refused at once. What still runs when the
        time is over is given up: who waits for it is told that it failed with ``ServerStopped``.

        Args:
            timeout_s: How many seconds the runs under way get.

        Returns:
            Whether every run that had started came to its own end.
        """
        with self._lock:
            self._stopping = True
            active = list(self._active.values())
        self._executor.close()
        executing = [run for run in active if not run.execution.cancel()]
        if executing:
            logger.info("Waiting up to %g s for the end of %d runs", timeout_s, len(executing))
        wait([run.execution for run in executing], timeout_s)
        with self._lock:
            cut_off = [run for run in executing if not run.execution.done()]
            for run in cut_off:
                logger.warning("Run %s is cut off: the server stops", run.run_id)
                run.give_up()
        return not cut_off


class _ActiveRun:
    """A run from its being taken in to its end, which comes once."""

    def __init__(self, run_id: str, execution: Future[RunOutcome]) -> None:
        self.run_id = run_id
        self.execution = execution
        self.outcome: Future[RunOutcome] = Future()
        self._taken_in_at = time.perf_counter()

    def end(self) -> None:
        """Give out what the execution came to, unless the run was given up before."""
        if self.outcome.done():
            return
        if self.execution.cancelled():
            self.outcome.set_exception(ServerStoppingError())
        elif fault := self.execution.exception():
            self.outcome.set_exception(fault)
        else:
            self.outcome.set_result(self.execution.result())

    def give_up(self) -> None:
        """Tell who waits that the server stops before the end."""
        duration_ms = round((time.perf_counter() - self._taken_in_at) * 1000, 2)
        error = ErrorDetail(
            type="ServerStopped", message="The server stopped, and the run had not ended."
        )
        self.outcome.set_result(
            RunOutcome(run_id=self.run_id, duration_ms=duration_ms, error=error)
        )
