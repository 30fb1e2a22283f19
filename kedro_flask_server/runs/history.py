"""Stored runs: retrieval, lists, and waiting for events and ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from kedro_flask_server.errors import ServerStoppingError, UnknownRunError
from kedro_flask_server.model.event import EventPage, EventType
from kedro_flask_server.model.run import Run, RunFilter, RunPage, RunPart
from kedro_flask_server.runs.client_waits import LOOK_EVERY_S, ClientWaits, is_never, monotonic_end
from kedro_flask_server.runs.lifecycle import Lifecycle
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import RunStore


class RunHistory:
    """Retrieves runs from the store, and waits for their events and ends."""

    def __init__(
        self,
        store: RunStore,
        *,
        lifecycle: Lifecycle,
        waiting: ClientWaits,
        waiters: Waiters,
        event_waiters: Waiters,
    ) -> None:
        """Prepare.

        Args:
            store: Stores the runs.
            lifecycle: The lifecycle of the executor and threads.
            waiting: Limits waiting clients.
            waiters: The requests that wait for the end of runs.
            event_waiters: The requests that wait for events of runs.
        """
        self._store = store
        self._lifecycle = lifecycle
        self._waiting = waiting
        self._waiters = waiters
        self._event_waiters = event_waiters

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            UnknownRunError: If there is no such run in this project and environment.
        """
        self._lifecycle.server_id()
        run = self._store.get(run_id)
        if run is None:
            raise UnknownRunError(run_id)
        return run

    def wait(self, run_id: str, timeout_s: float, *, is_gone: Callable[[], bool] = is_never) -> Run:
        """Wait for a run's end, if a waiting slot is free.

        Args:
            run_id: The run.
            timeout_s: How many seconds to wait at most.
            is_gone: As for `submit`.

        Returns:
            The run after the wait.

        Raises:
            UnknownRunError: If there is no such run.
        """
        if timeout_s <= 0:
            return self.get(run_id)
        with self._waiting.watcher_slot() as is_free, self._waiters.waiter(run_id) as waiter:
            run = self.get(run_id)
            if not is_free:
                return run
            return self._waiting.wait(run, waiter, monotonic_end(timeout_s), is_gone)

    def page(
        self,
        wanted: RunFilter,
        *,
        limit: int,
        cursor: str | None = None,
        include: Collection[RunPart] = (),
    ) -> RunPage:
        """Return summaries of runs of this project and environment, the newest first.

        The request of a summary has the pipelines alone, and its error no traceback.

        Args:
            wanted: Which runs.
            limit: The maximum number of runs; fewer are returned if they are large.
            cursor: ``next`` of the previous page.
            include: What to add to the summaries.
        """
        self._lifecycle.server_id()
        return self._store.page(wanted, limit=limit, cursor=cursor, include=include)

    def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        limit: int = 1000,
        kind: EventType | None = None,
        wait_s: float = 0,
    ) -> EventPage:
        """Return a page of a run's events, in order.

        Args:
            run_id: The run.
            after: The id after which the events begin.
            limit: The maximum number of events.
            kind: Events of this type; None for all.
            wait_s: How many seconds to wait for the first event.

        Returns:
            A page; it may be empty if the run has not ended.

        Raises:
            UnknownRunError: If there is no such run.
            ServerStoppingError: If the server stops while there are no events to return.
        """
        self._lifecycle.server_id()
        ends_at = time.monotonic() + wait_s
        with self._event_waiters.waiter(run_id) as waiter:
            while True:
                page = self._store.event_page(run_id, after=after, limit=limit, kind=kind)
                if page is None:
                    raise UnknownRunError(run_id)
                remaining_s = ends_at - time.monotonic()
                if page.events or page.next is None or remaining_s <= 0:
                    return page
                if self._lifecycle.is_stopped:
                    raise ServerStoppingError
                waiter.wait(min(remaining_s, LOOK_EVERY_S))
