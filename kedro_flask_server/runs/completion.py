"""Stores the ends of runs as soon as possible."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.run import Run, RunOutcome
from kedro_flask_server.runs.executions import Execution, Executions
from kedro_flask_server.runs.lease import ServerLease
from kedro_flask_server.runs.recorder import Recorder
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import RunStore

logger = logging.getLogger(__name__)

# How long clients wait for a run whose end cannot be stored.
_UNRECORDABLE_AFTER_S = 3.0


class Completion:
    """Stores the ends of runs, and holds those that cannot be stored now."""

    def __init__(
        self,
        store: RunStore,
        executions: Executions,
        lease: ServerLease,
        recorder: Recorder,
        waiters: Waiters,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            store: Where the ends go.
            executions: Has the runs that execute here.
            lease: Notes that the store cannot be reached.
            recorder: Has their events that are not stored yet.
            waiters: Who waits for them.
            clock: That by which `executions` says since when an end is not stored.
        """
        self._store = store
        self._executions = executions
        self._lease = lease
        self._recorder = recorder
        self._waiters = waiters
        self._clock = clock

    def record(self, execution: Execution, outcome: RunOutcome) -> bool:
        """Store the end of a run, and free its slot; hold the end if it cannot be stored now.

        Args:
            execution: The run.
            outcome: Its outcome.

        Returns:
            Whether it is stored.
        """
        run_id = execution.run_id
        pending = self._recorder.drain(run_id, execution.server_id)
        try:
            ended = self._store.finish(execution.run, outcome, pending)
            ended = ended or self._end_without_row(execution, outcome)
        except Exception as error:  # the slot must be freed and the run must end, whatever happens
            self._recorder.restore(run_id, pending)
            self._log_failure(run_id, error)
            self._executions.keep_unrecorded(execution, outcome)
            self._executions.remove(run_id)
            return False
        self._recorder.close(run_id)
        self._executions.drop_unrecorded(run_id)
        self._executions.remove(run_id)
        self._waiters.wake(run_id, ended=ended)
        return True

    def _log_failure(self, run_id: str, error: Exception) -> None:
        if isinstance(error, StoreUnavailableError):
            self._lease.record_failure(error)
        else:
            logger.error("The end of run %s could not be stored", run_id, exc_info=error)

    def _end_without_row(self, execution: Execution, outcome: RunOutcome) -> Run | None:
        """Return an ended run whose row is gone; None if the row has another end."""
        run_id = execution.run_id
        if self._store.get(run_id) is not None:
            logger.warning("Run %s has another end in the store", run_id)
            return None
        logger.error(
            "Run %s has ended (%s), and its row is gone: the database was replaced meanwhile",
            run_id,
            outcome.status,
        )
        return replace(
            execution.run,
            status=outcome.status,
            duration_ms=outcome.duration_ms,
            error=outcome.error,
            finished_at=datetime.now(timezone.utc),
        )

    def retry(self) -> None:
        """Retry to store the ends that could not be stored."""
        can_store = True
        for each in self._executions.unrecorded():
            # If one cannot be stored, the others cannot either, and each would take seconds.
            can_store = can_store and self.record(each.execution, each.outcome)
            if not can_store and self._clock() - each.since > _UNRECORDABLE_AFTER_S:
                self._waiters.wake(each.execution.run_id, is_unrecordable=True)
