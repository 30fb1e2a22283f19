"""Lets clients wait for the end of runs, within a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from kedro_flask_server.errors import RunGoneError, UnknownRunError
from kedro_flask_server.model.run import Run, RunStatus
from kedro_flask_server.runs.executions import Executions
from kedro_flask_server.runs.lifecycle import Lifecycle
from kedro_flask_server.runs.waiters import Waiter
from kedro_flask_server.store import RunStore

LOOK_EVERY_S = 0.5
"""How often a waiting client looks in the store for changes by other servers."""

# How often to check whether the client is still connected.
_LOOK_FOR_CLIENT_EVERY_S = 0.4


class ClientWaits:
    """Waits of requests for the end of runs."""

    def __init__(
        self,
        store: RunStore,
        executions: Executions,
        lifecycle: Lifecycle,
        *,
        slots: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with free slots.

        Args:
            store: Has the runs.
            executions: Has those that execute here.
            lifecycle: Says whether this server stops.
            slots: How many clients that send runs may wait at a time; as many more that only
                look at runs, so that these never take the slots of those.
            clock: Returns the time, in seconds, as `time.monotonic` does.
        """
        self._store = store
        self._executions = executions
        self._lifecycle = lifecycle
        self._clock = clock
        self._submitter_slots = threading.BoundedSemaphore(slots)
        self._watcher_slots = threading.BoundedSemaphore(slots)

    def submitter_slot(self) -> AbstractContextManager[bool]:
        """Acquire a slot for a submitter, for as long as the context lasts: whether one is free."""
        return _slot_of(self._submitter_slots)

    def watcher_slot(self) -> AbstractContextManager[bool]:
        """Acquire a slot for a client that watches a run, as `submitter_slot` does."""
        return _slot_of(self._watcher_slots)

    def wait(self, run: Run, waiter: Waiter, ends_at: float, is_gone: Callable[[], bool]) -> Run:
        """Wait until a run has ended, the time is over, or the server stops before.

        Args:
            run: The run, as last seen after the waiter was attached to it.
            waiter: The waiter of the run.
            ends_at: The deadline, by the monotonic clock.
            is_gone: Returns whether the client is gone, which ends the wait, too.

        Raises:
            UnknownRunError: If the run is gone.
        """
        lifecycle = self._lifecycle
        while True:
            run = waiter.ended or run
            is_left = lifecycle.is_stopping and run.status is RunStatus.QUEUED
            if run.status.is_final or is_left or waiter.is_unrecordable or lifecycle.is_stopped:
                return run
            remaining_s = ends_at - self._clock()
            if remaining_s <= 0 or is_gone():
                return run
            has_news = waiter.wait(min(remaining_s, _LOOK_FOR_CLIENT_EVERY_S))
            if waiter.ended is None and (has_news or self._clock() >= ends_at):
                run = self._get_again(run, waiter)

    def wait_for_admitted(
        self, run: Run, waiter: Waiter, ends_at: float, is_gone: Callable[[], bool]
    ) -> Run:
        """Wait as `wait` does, for a run that was admitted with this request.

        Raises:
            RunGoneError: If the run is gone.
        """
        try:
            return self.wait(run, waiter, ends_at, is_gone)
        except UnknownRunError as error:
            raise RunGoneError(run.run_id) from error

    def _get_again(self, run: Run, waiter: Waiter) -> Run:
        found = self._store.get(run.run_id)
        if found is not None:
            return found
        # Its row was lost with its database. If it still executes, its end will come; otherwise,
        # its end is about to be announced.
        if run.run_id in self._executions.in_hand:
            return run
        waiter.wait(LOOK_EVERY_S)
        if waiter.ended is None:
            raise UnknownRunError(run.run_id)
        return waiter.ended


@contextmanager
def _slot_of(slots: threading.BoundedSemaphore) -> Iterator[bool]:
    is_free = slots.acquire(blocking=False)
    try:
        yield is_free
    finally:
        if is_free:
            slots.release()


def is_never() -> bool:
    """Return False: for calls without a client that could disconnect."""
    return False


def monotonic_end(timeout_s: float | None) -> float:
    """Return a deadline by the monotonic clock; infinite for None."""
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s
