"""Stored runs: retrieval, lists, and waiting for events and ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from kedro_flask_server.bounded_cache import BoundedCache
from kedro_flask_server.errors import ServerStoppingError, UnknownRunError
from kedro_flask_server.model.event import Event, EventPage, EventType, LogPart
from kedro_flask_server.model.provenance import RunRecord, RunSummary
from kedro_flask_server.model.run import Run, RunFilter, RunPage, RunPart, RunStatus
from kedro_flask_server.model.usual import UsualDurations
from kedro_flask_server.runs.client_waits import LOOK_EVERY_S, ClientWaits, is_never, monotonic_end
from kedro_flask_server.runs.lifecycle import Lifecycle
from kedro_flask_server.runs.state_token import StateToken
from kedro_flask_server.runs.waiters import Waiters
from kedro_flask_server.store import RunStore

# The successes that are usual, and the number of runs among which they are looked for.
_USUAL_OF = 20
_USUAL_AMONG = 40

_MAX_USUAL = 64

_LOG_AT_A_TIME = 2_000


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
        self._token = StateToken(store.state_token)
        self._usual: BoundedCache[Any, UsualDurations] = BoundedCache(_MAX_USUAL)

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

    def record(self, run_id: str) -> RunRecord:
        """Return what a run was made of, and what became of its nodes.

        Raises:
            UnknownRunError: If there is no such run.
        """
        self._lifecycle.server_id()
        found = self._store.record(run_id)
        if found is None:
            raise UnknownRunError(run_id)
        return found

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

    def state_token(self) -> str:
        """Return a text that changes whenever a list of runs, or the queue, does."""
        self._lifecycle.server_id()
        return self._token.get()

    def newest_event(self, run_id: str) -> Event | None:
        """Return a run's newest event; None if it has none."""
        self._lifecycle.server_id()
        return self._store.newest_event(run_id)

    def log(
        self,
        run_id: str,
        *,
        before: int | None = None,
        node: str | None = None,
        text: str | None = None,
        limit: int,
    ) -> LogPart:
        """Return the end of a run's log, or what comes before a record of it.

        Args:
            run_id: The run.
            before: The id of that record; None for the end.
            node: The records of this node; None for all.
            text: The records that contain this, in whatever case; None for all.
            limit: The maximum number of records.
        """
        self._lifecycle.server_id()
        wanted: list[Event] = []
        needle = None if text is None else text.casefold()
        while True:
            found = self._store.log_records(run_id, before=before, limit=_LOG_AT_A_TIME)
            wanted = [event for event in found if _is_wanted(event, node, needle)] + wanted
            before = found[0].id if found else None
            if len(wanted) > limit or len(found) < _LOG_AT_A_TIME:
                return LogPart(events=wanted[-limit:], has_earlier=len(wanted) > limit)

    def recent(self, wanted: RunFilter, limit: int) -> list[tuple[Run, RunSummary | None]]:
        """Return summaries of the newest runs, each with what became of its nodes.

        Args:
            wanted: Which runs.
            limit: The maximum number of runs.
        """
        found = self.page(wanted, limit=limit).runs
        ended = [run.run_id for run in found if run.status.is_final]
        nodes = self._store.node_summaries(ended)
        return [(run, nodes.get(run.run_id)) for run in found]

    def usual_durations(
        self,
        pipelines: tuple[str, ...],
        *,
        before: str | None = None,
        submitted_by: str | None = None,
    ) -> UsualDurations:
        """Return how long runs of exactly these pipelines take, by their last successes.

        Args:
            pipelines: The names of the pipelines.
            before: The id of the run that they come before; None for the newest.
            submitted_by: The runs of this submitter; None for all.
        """
        wanted = RunFilter(
            statuses=(RunStatus.SUCCESS,), pipeline=pipelines[0], submitted_by=submitted_by
        )
        found = self.page(wanted, limit=_USUAL_AMONG, cursor=before).runs
        same = {*pipelines}
        alike = [run for run in found if {*run.request.pipelines} == same and not run.retry_of]
        alike = alike[:_USUAL_OF]
        key = (frozenset(same), tuple(run.run_id for run in alike))
        known = self._usual.get(key)
        if known is None:
            nodes = self._store.node_summaries([run.run_id for run in alike])
            known = UsualDurations.of((run, nodes.get(run.run_id)) for run in alike)
            self._usual.put(key, known)
        return known

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


def _is_wanted(event: Event, node: str | None, needle: str | None) -> bool:
    if node is not None and event.data.get("node") != node:
        return False
    return needle is None or needle in str(event.data.get("message")).casefold()
