"""Stores the events of the runs that execute here, in batches."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

from kedro_flask_server.background_thread import BackgroundThread
from kedro_flask_server.errors import StoreUnavailableError
from kedro_flask_server.model.report import RunReport
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import PendingEvents, RunStore

logger = logging.getLogger(__name__)

# How often to store events. A killed process loses those that came since.
_EVERY_S = 0.2

# After how long without a run the thread sleeps until the next.
_AWAKE_S = 5.0


@dataclass(slots=True)
class _Recording:
    report: RunReport
    server_id: str
    is_being_stored: bool = False
    is_ending: bool = False

    def drain(self) -> PendingEvents:
        return PendingEvents(
            server_id=self.server_id,
            events=self.report.drain(),
            last_id=self.report.last_id,
            progress=self.report.progress,
            provenance=self.report.drain_provenance(),
        )


class Recorder:
    """The thread that stores events while runs execute; the rest is stored with a run's end."""

    def __init__(self, store: RunStore, waiters: Waiters, *, max_log_bytes: int) -> None:
        """Prepare; `start` begins.

        Args:
            store: Stores the events.
            waiters: The requests that wait for events of runs.
            max_log_bytes: The size of log to keep of each run.
        """
        self._store = store
        self._waiters = waiters
        self._max_log_bytes = max_log_bytes
        self._recordings: dict[str, _Recording] = {}
        self._changed = threading.Condition()
        self._is_due = threading.Event()
        self._is_stopping = False
        self._is_asleep = False
        self._thread = BackgroundThread(self._work, name="kedro-recorder")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether its thread is alive."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop, after storing what can be stored."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._is_due.set()
        self._thread.join()

    def open(self, run_id: str, server_id: str, *, after: int) -> RunReport:
        """Return the report of a run that will execute.

        Args:
            run_id: The run.
            server_id: The server that executes it.
            after: The id of its newest event.
        """
        report = RunReport(after=after, max_log_bytes=self._max_log_bytes, on_many=self._is_due.set)
        with self._changed:
            self._recordings[run_id] = _Recording(report, server_id)
            if self._is_asleep:
                self._changed.notify_all()
        self._waiters.wake(run_id)
        return report

    def close(self, run_id: str) -> None:
        """Remove a run, and drop its later events."""
        with self._changed:
            recording = self._recordings.pop(run_id, None)
        if recording is not None:
            recording.report.close()
        self._waiters.wake(run_id)

    def drain(self, run_id: str, server_id: str) -> PendingEvents:
        """Return the pending events of a run, to be stored with its end.

        Args:
            run_id: The run.
            server_id: The server that executes it.
        """
        with self._changed:
            recording = self._recordings.get(run_id)
            if recording is None:
                return PendingEvents(server_id=server_id, events=[])
            recording.is_ending = True
            self._changed.wait_for(lambda: not recording.is_being_stored)
            recording.report.end()
            report = recording.report
            return replace(recording.drain(), summary=report.summary, outputs={**report.outputs})

    def restore(self, run_id: str, pending: PendingEvents) -> None:
        """Restore pending events that could not be stored."""
        with self._changed:
            recording = self._recordings.get(run_id)
            if recording is not None:
                recording.report.restore(pending.events, pending.provenance)
                recording.is_ending = False

    def _work(self) -> None:
        is_stopping = False
        awake_until = 0.0
        while not is_stopping:
            with self._changed:
                if self._recordings:
                    awake_until = time.monotonic() + _AWAKE_S
                if time.monotonic() > awake_until:
                    self._is_asleep = True
                    self._changed.wait_for(lambda: self._recordings or self._is_stopping)
                    self._is_asleep = False
            self._is_due.wait(_EVERY_S)  # outside the lock: holders of a report's lock set it
            self._is_due.clear()
            with self._changed:
                is_stopping = self._is_stopping
                pending = self._drain_all()
            if pending:
                self._store_all(pending)

    def _drain_all(self) -> dict[str, PendingEvents]:
        batch = {}
        for run_id, recording in self._recordings.items():
            # Later events must not be stored before those that are stored with a run's end.
            if not recording.is_ending:
                pending = recording.drain()
                recording.is_being_stored = pending.is_news
                batch[run_id] = pending
        return {run_id: pending for run_id, pending in batch.items() if pending.is_news}

    def _store_all(self, batch: dict[str, PendingEvents]) -> None:
        is_stored = True
        try:
            self._store.events.add(batch)
        except StoreUnavailableError as error:  # the housekeeper notices, and logs it
            logger.debug("Events cannot be stored now: %s", error.reason)
            is_stored = False
        except Exception:  # events that cannot be stored must not block the others
            logger.exception("Events of the runs %s are lost", ", ".join(batch))
        with self._changed:
            for run_id, pending in batch.items():
                recording = self._recordings.get(run_id)
                if recording is not None:
                    recording.is_being_stored = False
                    if not is_stored:
                        recording.report.restore(pending.events, pending.provenance)
            self._changed.notify_all()
        for run_id in batch:
            self._waiters.wake(run_id)
